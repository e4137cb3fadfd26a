// What a fuzz target is: a reader with seeds, a mutator that knows its format, and one case. The engine is loop.ts.

import type { Dice } from './random.ts'

/** A case: the files (or texts, or requests) that the reader is given, in order. Bytes are never changed in place. */
export type FuzzInput = readonly FuzzFile[]

export interface FuzzFile {
  readonly name: string
  readonly bytes: Uint8Array
}

export interface FuzzTarget {
  readonly name: string
  /** Whether inputs that reach new blocks of src/ join the corpus. Off where the code under test is mostly a library. */
  readonly guided: boolean
  /** Inputs grow by mutation; beyond this many bytes they are cut or left out. */
  readonly maxBytes: number
  /** Starts what the cases need (a server), for this process. */
  setUp?(): Promise<void>
  tearDown?(): Promise<void>
  /** Valid inputs, and a few that are nearly so. */
  seeds(): FuzzInput[]
  /** A changed copy of `input`; `other` is another member of the corpus to take pieces from. */
  mutate(input: FuzzInput, other: FuzzInput, dice: Dice): FuzzInput
  /**
   * One case. Resolves with a short word when the input is taken; throws what the reader throws. An `AppError` whose code is
   * documented is a right answer, everything else is a finding. `dice` chooses which further checks an accepted input meets.
   */
  run(input: FuzzInput, dice: Dice): Promise<string>
}

export function inputBytes(input: FuzzInput): number {
  return input.reduce((sum, file) => sum + file.bytes.length, 0)
}

/** A copy with file `index` holding other bytes. */
export function withBytes(input: FuzzInput, index: number, bytes: Uint8Array): FuzzInput {
  return input.map((file, at) => (at === index ? { ...file, bytes } : file))
}
