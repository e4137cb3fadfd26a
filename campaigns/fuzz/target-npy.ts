// The .npy header parser by itself, at full speed.

import { readNpyHeader } from '../../src/formats/wire/npy.ts'
import { f4, npyBytes } from '../../test/support/write-npz.ts'
import { mutateNpy } from './mutate-npz.ts'
import { type FuzzInput, type FuzzTarget, withBytes } from './target.ts'

export const target: FuzzTarget = {
  name: 'npy',
  guided: true,
  maxBytes: 8 * 1024,
  seeds(): FuzzInput[] {
    const array = f4([2, 3], [1, 2, 3, 4, 5, 6])
    return [
      npyBytes(array),
      npyBytes({ ...array, version: 2, fortranOrder: true }),
      npyBytes({ ...array, version: 3 }),
      npyBytes({ descr: '>i8', shape: [1], data: new Uint8Array(8) }),
      npyBytes({ descr: '|b1', shape: [], data: new Uint8Array(1) }),
    ].map((bytes) => [{ name: 'x.npy', bytes }])
  },
  mutate(input, other, dice) {
    return withBytes(input, 0, mutateNpy(input[0]!.bytes, other[0]!.bytes, dice))
  },
  async run(input) {
    const { shape, dataBytes, dataOffset } = readNpyHeader(input[0]!.bytes)
    const sound = [...shape, dataBytes, dataOffset].every((value) => Number.isSafeInteger(value) && value >= 0)
    if (!sound)
      throw new Error(`a header was accepted with the numbers ${shape.join(', ')}, ${dataBytes}, ${dataOffset}`)
    return 'read'
  },
}
