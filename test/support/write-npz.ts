// Writes .npy and .npz bytes as numpy.save, numpy.savez and numpy.savez_compressed do: npyBytes, npzBytes, writeNpz.

import { writeFileSync } from 'node:fs'
import { crc32, deflateRawSync } from 'node:zlib'

const DESCR = { f32: '<f4', f64: '<f8', i32: '<i4', i64: '<i8', u8: '|u1', bool: '|b1' } as const

/** `descr` is NumPy's own spelling, such as '<f4', '>i8', '|u1'; `dtype` one of ours, little-endian. */
export type NpyArray = ({ descr: string } | { dtype: keyof typeof DESCR }) & {
  shape: number[]
  data: ArrayBufferView<ArrayBufferLike>
  fortranOrder?: boolean
  version?: 1 | 2 | 3
}

export interface NpzOptions {
  deflate?: boolean
  /** Changes the 46 bytes of a central directory entry, to build damaged archives. */
  patchEntry?: (entry: Buffer, name: string) => void
}

export function npyBytes(array: NpyArray): Uint8Array {
  const { shape, data, fortranOrder = false, version = 1 } = array
  const descr = 'descr' in array ? array.descr : DESCR[array.dtype]
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`
  const text = `{'descr': '${descr}', 'fortran_order': ${fortranOrder ? 'True' : 'False'}, 'shape': ${tuple}, }`
  const prefixBytes = version === 1 ? 10 : 12
  const padding = (64 - ((prefixBytes + text.length + 1) % 64)) % 64
  const header = Buffer.from(`${text}${' '.repeat(padding)}\n`, version === 3 ? 'utf8' : 'latin1')
  const prefix = Buffer.alloc(prefixBytes)
  prefix.write('\x93NUMPY', 'latin1')
  prefix[6] = version
  if (version === 1) prefix.writeUInt16LE(header.length, 8)
  else prefix.writeUInt32LE(header.length, 8)
  return Buffer.concat([prefix, header, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)])
}

/** A float32 array of these values. */
export function f4(shape: number[], values: readonly number[]) {
  return { descr: '<f4', shape, data: new Uint8Array(Float32Array.from(values).buffer) }
}

/** An int64 array, as NumPy makes from Python integers. */
export function i8(shape: number[], values: readonly number[]) {
  return { descr: '<i8', shape, data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer) }
}

/** A zip of `<name>.npy` entries; an entry given as bytes is stored under its name as it is. */
export function npzBytes(arrays: Record<string, NpyArray | Uint8Array>, options: NpzOptions = {}): Uint8Array {
  const locals: Buffer[] = []
  const directory: Buffer[] = []
  let offset = 0
  for (const [key, array] of Object.entries(arrays)) {
    const name = Buffer.from(array instanceof Uint8Array ? key : `${key}.npy`)
    const content = array instanceof Uint8Array ? array : npyBytes(array)
    const stored = options.deflate ? deflateRawSync(content) : content
    const common = Buffer.alloc(26)
    common.writeUInt16LE(20, 0) // version needed
    common.writeUInt16LE(0x800, 2) // names are UTF-8
    common.writeUInt16LE(options.deflate ? 8 : 0, 4)
    common.writeUInt32LE(crc32(content), 10)
    common.writeUInt32LE(stored.length, 14)
    common.writeUInt32LE(content.length, 18)
    common.writeUInt16LE(name.length, 22)
    locals.push(Buffer.from('PK\x03\x04', 'latin1'), common, name, Buffer.from(stored))
    const entry = Buffer.alloc(46)
    entry.write('PK\x01\x02', 'latin1')
    entry.writeUInt16LE(20, 4)
    common.copy(entry, 6)
    entry.writeUInt32LE(offset, 42)
    options.patchEntry?.(entry, key)
    directory.push(entry, name)
    offset += 30 + name.length + stored.length
  }
  const central = Buffer.concat(directory)
  const end = Buffer.alloc(22)
  end.write('PK\x05\x06', 'latin1')
  end.writeUInt16LE(directory.length / 2, 8)
  end.writeUInt16LE(directory.length / 2, 10)
  end.writeUInt32LE(central.length, 12)
  end.writeUInt32LE(offset, 16)
  return Buffer.concat([...locals, central, end])
}

export function writeNpz(path: string, arrays: Record<string, NpyArray | Uint8Array>, options: NpzOptions = {}): void {
  writeFileSync(path, npzBytes(arrays, options))
}
