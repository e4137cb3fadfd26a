// Dataset elements in the dtype that a model input wants: convertElements. Floats stay floats and integers integers.
// Conversions are exact, value by value, with one exception that is named in canConvert: f64 is rounded to the nearest f32,
// since NumPy makes f64 unless told otherwise.

import { AppError } from '../errors.ts'
import { byteLength, DTYPES, type DType } from '../tensor/dtype.ts'
import { float16ToNumber } from '../tensor/float16.ts'

const INTEGERS: readonly DType[] = ['i8', 'u8', 'i16', 'u16', 'i32', 'u32', 'i64', 'u64', 'bool']
const FLOATS: readonly DType[] = ['f16', 'f32', 'f64']

/**
 * Whether elements of `from` may be given to an input of `to`: 'exact' (each value is checked), 'rounded', or not at all.
 * Integers are no floats: class ids or raw pixels where a model wants scaled values are a mistake that no value shows.
 */
export function canConvert(from: DType, to: DType): 'exact' | 'rounded' | null {
  if (from === to) return 'exact'
  if (INTEGERS.includes(from) && INTEGERS.includes(to)) return 'exact'
  if (from === 'f64' && to === 'f32') return 'rounded'
  if (FLOATS.includes(from) && FLOATS.includes(to) && DTYPES[from].bits < DTYPES[to].bits) return 'exact'
  return null
}

/** NumPy's name of a dtype, as in `x.astype("float32")`; bf16 and the like, which it lacks, keep ours. */
export function numpyName(dtype: DType): string {
  if (!FLOATS.includes(dtype) && !INTEGERS.includes(dtype)) return dtype
  return dtype
    .replace(/^f(?=\d)/, 'float')
    .replace(/^i(?=\d)/, 'int')
    .replace(/^u(?=\d)/, 'uint')
}

/**
 * Converts little- or big-endian elements to little-endian ones of another dtype.
 * @param bytes whole elements of `from`; may be returned itself, or be byte-swapped in place
 * @param where names the array in errors; `firstElement` is the index of the first element inside it
 * @throws AppError dataset_invalid naming the first value that has no exact counterpart
 */
export function convertElements(
  bytes: Uint8Array,
  from: DType,
  to: DType,
  littleEndian: boolean,
  where: { array: string; firstElement: number },
): Uint8Array {
  if (!littleEndian) swapBytes(bytes, DTYPES[from].bits / 8)
  if (from === to && to !== 'bool') return bytes
  const source = decodeElements(bytes, from)
  const out = new Uint8Array(byteLength(to, source.length))
  const put = writer(new DataView(out.buffer), to)
  source.forEach((value, i) => {
    if (put(i, value)) return
    const element = where.firstElement + i
    throw new AppError('dataset_invalid', `array '${where.array}': element ${element} is ${value}, which is no ${to}`, {
      array: where.array,
      element,
      value: String(value),
      expected: to,
    })
  })
  return out
}

/** Writes element i and tells whether the value has an exact place in the dtype (f64 -> f32 rounds). */
function writer(view: DataView, to: DType): (i: number, value: number | bigint) => boolean {
  switch (to) {
    case 'f32':
      return (i, value) => {
        view.setFloat32(i * 4, Number(value), true)
        return true
      }
    case 'f64':
      return (i, value) => {
        view.setFloat64(i * 8, Number(value), true)
        return true
      }
    case 'i64':
    case 'u64':
      return (i, value) => {
        const wide = BigInt(value)
        view.setBigInt64(i * 8, wide, true)
        return (to === 'i64' ? BigInt.asIntN(64, wide) : BigInt.asUintN(64, wide)) === wide
      }
    case 'bool':
      return (i, value) => {
        view.setUint8(i, Number(value))
        return Number(value) === 0 || Number(value) === 1
      }
    default:
      return integerWriter(view, to)
  }
}

function integerWriter(view: DataView, to: DType): (i: number, value: number | bigint) => boolean {
  const bits = DTYPES[to].bits
  const signed = to.startsWith('i')
  const min = signed ? -(2 ** (bits - 1)) : 0
  const max = signed ? 2 ** (bits - 1) - 1 : 2 ** bits - 1
  return (i, value) => {
    const number = Number(value)
    if (bits === 8) view.setUint8(i, number)
    else if (bits === 16) view.setUint16(i * 2, number, true)
    else view.setUint32(i * 4, number, true)
    return number >= min && number <= max
  }
}

/** Little-endian elements as numbers (floats, integers up to 16 bits) or, so that exactness can be judged, bigints. */
export function decodeElements(bytes: Uint8Array, dtype: DType): (number | bigint)[] {
  const size = DTYPES[dtype].bits / 8
  const read = reader(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), dtype)
  const values: (number | bigint)[] = []
  for (let at = 0; at < bytes.length; at += size) values.push(read(at))
  return values
}

function reader(view: DataView, dtype: DType): (offset: number) => number | bigint {
  switch (dtype) {
    case 'f16':
      return (at) => float16ToNumber(view.getUint16(at, true))
    case 'f32':
      return (at) => view.getFloat32(at, true)
    case 'f64':
      return (at) => view.getFloat64(at, true)
    case 'i8':
      return (at) => view.getInt8(at)
    case 'u8':
    case 'bool':
      return (at) => view.getUint8(at)
    case 'i16':
      return (at) => view.getInt16(at, true)
    case 'u16':
      return (at) => view.getUint16(at, true)
    case 'i32':
      return (at) => BigInt(view.getInt32(at, true))
    case 'u32':
      return (at) => BigInt(view.getUint32(at, true))
    case 'i64':
      return (at) => view.getBigInt64(at, true)
    case 'u64':
      return (at) => view.getBigUint64(at, true)
    default:
      throw new AppError('dtype_unsupported', `dataset elements of ${dtype}`, { dtype })
  }
}

function swapBytes(bytes: Uint8Array, size: number): void {
  if (size === 1) return
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (size === 2) buffer.swap16()
  else if (size === 4) buffer.swap32()
  else buffer.swap64()
}
