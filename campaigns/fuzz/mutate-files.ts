// Mutations of models of several files: a file is changed, lost, emptied, doubled, renamed to where it should not be, or
// exchanged with that of another input. Entry: mutateFiles.

import type { Dice } from './random.ts'
import { type FuzzFile, type FuzzInput, withBytes } from './target.ts'

const HOSTILE_NAMES = [
  '',
  '.',
  '..',
  '../x',
  '/etc/passwd',
  'a/b',
  'a\\b',
  'C:x',
  'x\0y',
  'config.json',
  '\u00e9\u{1f600}',
  'n'.repeat(300),
]

export type MutateFile = (file: FuzzFile, other: FuzzFile, dice: Dice) => Uint8Array

export function mutateFiles(input: FuzzInput, other: FuzzInput, dice: Dice, mutateFile: MutateFile): FuzzInput {
  if (input.length === 0) return other
  const at = dice.below(input.length)
  const file = input[at]!
  const others = other.filter(({ name }) => name === file.name)
  const counterpart = others.length > 0 ? dice.pick(others) : file
  if (dice.chance(0.85)) return withBytes(input, at, mutateFile(file, counterpart, dice))
  const without = input.filter((_, index) => index !== at)
  switch (dice.below(6)) {
    case 0:
      // The reader is never called without a file.
      return input.length > 1 ? without : input
    case 1:
      return withBytes(input, at, new Uint8Array())
    case 2:
      return [...input, file]
    case 3: {
      const name = dice.chance(0.5) ? dice.pick(input).name : dice.pick(HOSTILE_NAMES)
      return input.map((entry, index) => (index === at ? { ...entry, name } : entry))
    }
    case 4:
      return withBytes(input, at, counterpart.bytes)
    default:
      return [...without, file]
  }
}
