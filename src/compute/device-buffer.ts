// Size and range rules that every device shares, so that both refuse the same commands.

import { AppError } from '../errors.ts'
import type { ChunkBuffer, DeviceBuffer, DeviceLimits, Kernel } from './compute-device.ts'

/** Shaders look at buffers as vec4<u32>, so memory comes in whole 16-byte groups; the padding is zero at the start. */
const GRANULE_BYTES = 16

export function paddedBytes(sizeBytes: number): number {
  return Math.max(GRANULE_BYTES, Math.ceil(sizeBytes / GRANULE_BYTES) * GRANULE_BYTES)
}

/** Throws when [offset, offset + size) leaves the buffer or is not made of whole words. */
export function checkRange(label: string, bufferBytes: number, offsetBytes: number, sizeBytes: number): void {
  if (offsetBytes % 4 !== 0 || sizeBytes % 4 !== 0) {
    throw new AppError(
      'internal',
      `buffer '${label}': offset ${offsetBytes} and size ${sizeBytes} must be multiples of 4 bytes`,
    )
  }
  if (offsetBytes < 0 || sizeBytes < 0 || offsetBytes + sizeBytes > bufferBytes) {
    throw new AppError(
      'internal',
      `buffer '${label}': bytes ${offsetBytes} to ${offsetBytes + sizeBytes} are outside of its ${bufferBytes} bytes`,
    )
  }
}

export function destroyedError(label: string): AppError {
  return new AppError('internal', `buffer '${label}' was used after it was destroyed`)
}

export function isChunk(buffer: DeviceBuffer): buffer is ChunkBuffer {
  return 'upload' in buffer
}

/** A device may keep chunks where only kernels read, so none of them does anything else with one. */
export function checkNoChunk(buffer: DeviceBuffer): void {
  if (isChunk(buffer)) throw new AppError('internal', `chunk '${buffer.label}' can only be read by kernels`)
}

/** What ChunkBuffer.upload must satisfy. */
export function checkUpload(chunk: ChunkBuffer & { destroyed: boolean }, sizeBytes: number): void {
  if (chunk.destroyed) throw destroyedError(chunk.label)
  checkRange(chunk.label, chunk.sizeBytes, 0, sizeBytes)
}

/** What a dispatch must satisfy before an adapter sees it; `bindings` in the kernel's order, `size` and `offset` in bytes. */
export function checkRun(
  kernel: Kernel,
  bindings: { buffer: DeviceBuffer; offset: number; size: number }[],
  params: Uint32Array,
  workgroups: [number, number, number],
  limits: DeviceLimits,
): void {
  const fail = (detail: string): never => {
    throw new AppError('internal', `kernel ${kernel.name}: ${detail}`)
  }
  if (bindings.length !== kernel.bindings.length || params.length !== kernel.paramWords) {
    fail(
      `takes ${kernel.bindings.length} buffers and ${kernel.paramWords} param words, got ${bindings.length} and ${params.length}`,
    )
  }
  if (workgroups.some((count) => count < 1 || count > limits.maxWorkgroupsPerDimension)) {
    fail(`workgroups ${workgroups.join(' x ')} are not within 1 and ${limits.maxWorkgroupsPerDimension}`)
  }
  for (const [index, { buffer, offset, size }] of bindings.entries()) {
    const { name, chunk } = kernel.bindings[index]!
    if (isChunk(buffer) && !chunk) fail(`'${name}' cannot be bound to chunk '${buffer.label}'`)
    if (offset % limits.offsetAlignmentBytes !== 0) {
      fail(
        `'${name}' starts at ${offset} of buffer '${buffer.label}', not a multiple of ${limits.offsetAlignmentBytes}`,
      )
    }
    if (size > limits.maxBindingBytes) {
      fail(`'${name}' binds ${size} bytes of buffer '${buffer.label}', the device allows ${limits.maxBindingBytes}`)
    }
    // WebGPU tracks usage by whole buffers: one that is written may not be read by the same dispatch, nor bound twice
    const written = kernel.bindings[index]!.access === 'read_write'
    const clash = bindings.findIndex((other, at) => {
      if (at === index || other.buffer !== buffer) return false
      if (written !== (kernel.bindings[at]!.access === 'read_write')) return true
      return written && other.offset < offset + size && offset < other.offset + other.size
    })
    if (written && clash >= 0) {
      fail(`'${name}' writes buffer '${buffer.label}', which '${kernel.bindings[clash]!.name}' also binds`)
    }
  }
}
