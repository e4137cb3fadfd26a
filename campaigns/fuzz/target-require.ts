// What a job must keep to, as clients and command lines write it: JSON or key=value text.

import { parseRequirements } from '../../src/validate/requirement.ts'
import { mutateText } from './mutate-text.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'

const SEEDS = [
  'metric=top1,maxDrop=0.01',
  'maxSizeRatio=0.5, maxLatencyRatio=1.2',
  'metric=sqnr_db,min=20',
  '{"metric":"cosine","min":0.99}',
  '[{"metric":"f1_macro","maxDrop":0},{"maxSizeRatio":0.3}]',
]

const WORDS = [
  'metric',
  'maxDrop',
  'min',
  'maxSizeRatio',
  'maxLatencyRatio',
  'top5',
  'f1',
  'agreement',
  'mse',
  '=',
  ',',
  '__proto__=1',
  'constructor=1',
  '0x1p3',
  '1e999',
  '-1',
]

export const target: FuzzTarget = {
  name: 'require',
  guided: true,
  maxBytes: 8 * 1024,
  seeds: (): FuzzInput[] => SEEDS.map((text) => [{ name: 'require', bytes: Uint8Array.from(Buffer.from(text)) }]),
  mutate(input, other, dice) {
    const [text, theirs] = [input, other].map((entry) => Buffer.from(entry[0]!.bytes).toString()) as [string, string]
    return withBytes(input, 0, Uint8Array.from(Buffer.from(mutateText(text, theirs, dice, WORDS))))
  },
  async run(input) {
    for (const requirement of parseRequirements(Buffer.from(input[0]!.bytes).toString())) {
      for (const value of Object.values(requirement)) {
        // JSON has neither, and a report that holds one would say null.
        if (typeof value === 'number' && !Number.isFinite(value))
          throw new Error(`a requirement of ${value} was accepted`)
      }
    }
    return 'parsed'
  },
}
