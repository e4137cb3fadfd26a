// quantize-int8 where the slot changes inside the chunk: the slot of chunk element i is its channel
// ((firstElement + i) / inner) % channels. For the columns of a [K,N] weight inner is 1; for axis 0 of a convolution inner is
// the product of the other dims. Slots and formula as in src/kernels/quantize-int8.ts; element i of the chunk -> byte i,
// bytes behind the last element up to its word are 0. Fast when firstElement % 4 == 0 and either inner == 1 with
// channels % 4 == 0, or inner % 4 == 0. Any dispatch of channelWorkgroups or more invocations covers the chunk.
// Params: [elements, inner, channels, firstElement].

import type { Kernel } from '../compute/compute-device.ts'
import {
  asBytes,
  asFloats,
  chunk,
  read,
  readWrite,
  WORKGROUP_SIZE,
  type Workgroups,
  workgroupsFor,
} from './kernel-support.ts'
import { type DecodedInt8Slot, decodeInt8Slot, int8Code } from './quantize-int8.ts'

/** A software adapter's chunk: there, reading slots weighs, and 64 vec4s an invocation measured a third faster than 16. */
const SMALL_CHUNK_ELEMENTS = 2 ** 21
const VEC4S_OF_SMALL_CHUNK = 64
/** Large chunks come from discrete GPUs, which need many invocations to be busy. */
const VEC4S_OF_LARGE_CHUNK = 16

export function channelWorkgroups(elements: number, inner: number, channels: number): Workgroups {
  // with inner 1 every invocation keeps to 4 columns, so there must be at least one for each 4 columns
  const columns = inner === 1 ? Math.ceil(channels / 4) : 1
  const vec4s = elements <= SMALL_CHUNK_ELEMENTS ? VEC4S_OF_SMALL_CHUNK : VEC4S_OF_LARGE_CHUNK
  return workgroupsFor(Math.max(columns, Math.ceil(elements / 4 / vec4s)))
}

export const quantizeInt8Channel: Kernel = {
  name: 'quantize-int8-channel',
  bindings: [chunk(), read('slots'), readWrite('out')],
  paramWords: 4,
  workgroupSize: WORKGROUP_SIZE,
  reference(buffers, params) {
    const [values, slots, out] = buffers as [Uint32Array, Uint32Array, Uint32Array]
    const [elements, inner, channels, firstElement] = params as unknown as [number, number, number, number]
    const floats = asFloats(values)
    const bytes = asBytes(out)
    const decoded: DecodedInt8Slot[] = []
    for (let i = 0; i < elements; i++) {
      const channel = Math.floor((firstElement + i) / inner) % channels
      decoded[channel] ??= decodeInt8Slot(slots, channel)
      bytes[i] = int8Code(decoded[channel], floats[i]!, values[i]!)
    }
    bytes.fill(0, elements, Math.ceil(elements / 4) * 4)
  },
}
