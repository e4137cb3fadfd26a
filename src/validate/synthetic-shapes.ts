// Sizes for the dynamic dimensions of a model that must run without a dataset. Entry: candidateShapes, a list of complete
// guesses, best first; the caller tries them until the original model accepts one.

import type { DType } from '../tensor/dtype.ts'

/** An input as the model declares it; strings and numbers below 1 are dynamic. */
export interface InputInfo {
  name: string
  dtype: DType
  shape: (number | string)[]
}

/** Concrete dims by input name. */
export type InputShapes = Record<string, number[]>

/** Side lengths tried for images; 224 first (most classifiers), then multiples of 32 (detectors), small ones last. */
const IMAGE_SIDES = [224, 320, 256, 128, 640, 64, 32]
/** Lengths tried for real-valued sequences: 512 samples is 32 ms of audio at 16 kHz. */
const SIGNAL_LENGTHS = [512, 256, 1024, 16000, 128, 64, 16, 1]
/** Lengths tried for token sequences. */
const TOKEN_LENGTHS = [16, 8, 32, 64, 128, 1]
/** More elements than this in one input are not tried. */
const MAX_INPUT_ELEMENTS = 2 ** 26

const BATCH_NAME = /batch|^n$|^b$|dynamicdimension\.0$/i
const STATE_NAME =
  /(^|[^a-z])(state|hidden|cell|cache|past|mem|h0?|c0?|hn|cn)([^a-z]|$)|^(h|c)_?\d*(_in)?$|past_key|prev_/i

/** True for inputs that carry a recurrent or cached state from run to run: they start as zeros. */
export function isStateInput(name: string): boolean {
  return STATE_NAME.test(name)
}

/** True when the input has the layout of an image: rank 4 (or 3) with a channel dimension of 1, 3 or 4. */
export function imageLayout(shape: readonly (number | string)[]): 'nchw' | 'nhwc' | null {
  if (shape.length !== 4) return null
  const channels = (dim: number | string | undefined) => dim === 1 || dim === 3 || dim === 4
  if (channels(shape[1]) && !(channels(shape[3]) && !channels(shape[2]) && shape[1] === 1)) return 'nchw'
  return channels(shape[3]) ? 'nhwc' : null
}

function isDynamic(dim: number | string | undefined): dim is string | number {
  return typeof dim !== 'number' || dim < 1
}

/** Complete guesses for every input, best first, at most one per size tried. */
export function candidateShapes(inputs: readonly InputInfo[]): InputShapes[] {
  const rounds = Math.max(...inputs.map((input) => sizesFor(input).length), 1)
  const seen = new Set<string>()
  const candidates: InputShapes[] = []
  for (let round = 0; round < rounds; round++) {
    const shapes = shapesOfRound(inputs, round)
    const key = JSON.stringify(shapes)
    const tooLarge = Object.values(shapes).some((dims) => dims.reduce((a, b) => a * b, 1) > MAX_INPUT_ELEMENTS)
    if (tooLarge || seen.has(key)) continue
    seen.add(key)
    candidates.push(shapes)
  }
  return candidates
}

function shapesOfRound(inputs: readonly InputInfo[], round: number): InputShapes {
  const symbols = new Map<string, number>()
  const shapes: InputShapes = {}
  for (const input of inputs) {
    const sizes = sizesFor(input)
    const size = sizes[Math.min(round, sizes.length - 1)] ?? 1
    shapes[input.name] = input.shape.map((dim, axis) => {
      if (!isDynamic(dim)) return Number(dim)
      const symbol = typeof dim === 'string' && dim !== '' && dim !== '?' ? dim : null
      const known = symbol === null ? undefined : symbols.get(symbol)
      if (known !== undefined) return known
      const value = isBatch(input, axis, dim) ? 1 : size
      if (symbol !== null) symbols.set(symbol, value)
      return value
    })
  }
  return shapes
}

function isBatch(input: InputInfo, axis: number, dim: number | string): boolean {
  return isStateInput(input.name) || axis === 0 || (typeof dim === 'string' && BATCH_NAME.test(dim))
}

function sizesFor(input: InputInfo): readonly number[] {
  if (isStateInput(input.name) || !input.shape.some((dim, axis) => isDynamic(dim) && axis > 0)) return [1]
  if (imageLayout(input.shape) !== null) {
    // One side given (text recognisers: 48 high): try common widths beside it first.
    const fixedSide = input.shape.slice(1).find((dim) => typeof dim === 'number' && dim > 4)
    return fixedSide === undefined ? IMAGE_SIDES : [320, Number(fixedSide), ...IMAGE_SIDES]
  }
  return input.dtype.startsWith('f') ? SIGNAL_LENGTHS : TOKEN_LENGTHS
}
