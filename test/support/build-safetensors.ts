// Builds safetensors bytes by hand, valid or not: buildSafetensors from tensors, rawSafetensors from any header text.

export interface TestTensor {
  name: string
  dtype: string
  shape: number[]
  data: Uint8Array
}

/** A valid file in the layout of the reference writer: compact JSON, padded with spaces to 8 bytes. */
export function buildSafetensors(tensors: readonly TestTensor[], metadata?: Record<string, string>): Uint8Array {
  let end = 0
  const members = tensors.map(({ name, dtype, shape, data }) => {
    const begin = end
    end += data.length
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`
  })
  if (metadata) members.unshift(`"__metadata__":${JSON.stringify(metadata)}`)
  const text = `{${members.join(',')}}`
  const padded = text + ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8)
  return rawSafetensors(padded, Buffer.concat(tensors.map(({ data }) => data)))
}

/** The header text as it is, its true (or a given) length before it, and the data after it. */
export function rawSafetensors(
  header: string | Uint8Array,
  data: Uint8Array = new Uint8Array(),
  length?: bigint,
): Uint8Array {
  const text = typeof header === 'string' ? Buffer.from(header) : header
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(length ?? BigInt(text.length))
  return Buffer.concat([prefix, text, data])
}

/** Little-endian bytes of float32 values. */
export function f32Bytes(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer)
}

/** Bytes that differ at every position, so that a misplaced copy shows. */
export function rampBytes(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 255)
}
