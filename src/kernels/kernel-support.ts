// What every kernel file needs and no kernel owns: how bindings are declared, how a number of invocations becomes a dispatch,
// and which buffers a reference function gets. The contract itself is src/compute/compute-device.ts.

import type { KernelBinding } from '../compute/compute-device.ts'

/** Invocations of one workgroup, in every shader: two warps of 32, and eight lavapipe subgroups of 8. */
export const WORKGROUP_SIZE = 64

/** WebGPU's guaranteed maxComputeWorkgroupsPerDimension; beyond it the dispatch takes a second dimension. */
const MAX_WORKGROUPS_X = 65535

export type Workgroups = [number, number, number]

export function read(name: string): KernelBinding {
  return { name, access: 'read' }
}

/** The weights, always the first binding: shaders read them by values_at(), see shaders/lib. */
export function chunk(): KernelBinding {
  return { name: 'values', access: 'read', chunk: true }
}

export function readWrite(name: string): KernelBinding {
  return { name, access: 'read_write' }
}

/** The dispatch that holds at least `invocations` invocations. Zero invocations give one idle workgroup. */
export function workgroupsFor(invocations: number): Workgroups {
  const groups = Math.max(1, Math.ceil(invocations / WORKGROUP_SIZE))
  const y = Math.ceil(groups / MAX_WORKGROUPS_X)
  return [Math.ceil(groups / y), y, 1]
}

/** Invocations that a dispatch starts. */
export function invocationCount(workgroups: Workgroups): number {
  return workgroups[0] * workgroups[1] * workgroups[2] * WORKGROUP_SIZE
}

/** The same bytes as f32. */
export function asFloats(words: Uint32Array): Float32Array {
  return new Float32Array(words.buffer, words.byteOffset, words.length)
}

/** The same bytes as u8, low byte of a word first (every supported host is little-endian). */
export function asBytes(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
}
