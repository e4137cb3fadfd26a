// Checked commands into a command buffer: the params of all dispatches in one uniform block, one compute pass for each run of
// the same kernel (passes are what time stamps can tell apart), copies and clears between. Entry: writeParams, encodeSteps.

import type { BindGroupCache } from './bind-group-cache.ts'
import { ChunkTexture, TEXEL_BYTES } from './chunk-texture.ts'
import type { Kernel } from './compute-device.ts'
import type { SubmitTimes } from './kernel-timer.ts'
import { type PipelineCache, VALUES_FIRST_WORDS } from './pipeline-cache.ts'
import type { BufferPool } from './staging-pool.ts'
import type { Binding } from './webgpu-buffer.ts'

/** A command whose buffers have been checked and looked up. */
export type Step =
  | {
      op: 'run'
      kernel: Kernel
      bindings: Binding[]
      params: Uint32Array
      workgroups: [number, number, number]
      bytes: number
    }
  | {
      op: 'copy'
      from: GPUBuffer
      fromOffsetBytes: number
      to: GPUBuffer
      toOffsetBytes: number
      sizeBytes: number
    }
  | { op: 'clear'; buffer: GPUBuffer; offsetBytes: number; sizeBytes: number }

/**
 * The params of a submit: `offsets[i]` is where step i finds its own; `firstOffsets[i]`, in steps whose chunk is a texture, where
 * the range that they bind begins. Null block: no step has any.
 */
export interface ParamsBlock {
  block: GPUBuffer | null
  offsets: number[]
  firstOffsets: number[]
}

/** The texture that a step reads its chunk from, and the first texel of the range that it binds. */
function textureOf(step: Step): { texture: ChunkTexture; first: number } | null {
  const chunk = step.op === 'run' ? step.bindings[0] : undefined
  return chunk?.buffer instanceof ChunkTexture ? { texture: chunk.buffer, first: chunk.offset / TEXEL_BYTES } : null
}

/** Takes a block from the pool and writes it; the caller gives it back when the work is done. */
export function writeParams(steps: Step[], device: GPUDevice, pool: BufferPool, alignmentBytes: number): ParamsBlock {
  const offsets: number[] = []
  const firstOffsets: number[] = []
  let sizeBytes = 0
  const place = (bytes: number): number => {
    const at = sizeBytes
    sizeBytes += Math.ceil(bytes / alignmentBytes) * alignmentBytes
    return at
  }
  for (const step of steps) {
    offsets.push(place(step.op === 'run' ? step.params.byteLength : 0))
    firstOffsets.push(place(textureOf(step) === null ? 0 : VALUES_FIRST_WORDS * 4))
  }
  if (sizeBytes === 0) return { block: null, offsets, firstOffsets }
  const words = new Uint32Array(sizeBytes / 4)
  for (const [index, step] of steps.entries()) {
    if (step.op === 'run') words.set(step.params, offsets[index]! / 4)
    const chunk = textureOf(step)
    if (chunk !== null) words[firstOffsets[index]! / 4] = chunk.first
  }
  const block = pool.take(sizeBytes)
  device.queue.writeBuffer(block, 0, words)
  return { block, offsets, firstOffsets }
}

export function encodeSteps(
  encoder: GPUCommandEncoder,
  steps: Step[],
  params: ParamsBlock,
  pipelines: PipelineCache,
  bindGroups: BindGroupCache,
  times: SubmitTimes,
): void {
  let pass: GPUComputePassEncoder | null = null
  let pipeline: GPUComputePipeline | null = null
  let record = { kernel: '', dispatches: 0, bytes: 0 }
  for (const [index, step] of steps.entries()) {
    if (step.op === 'run') {
      const chunk = textureOf(step)
      const wanted = pipelines.get(step.kernel, chunk === null ? 'buffer' : 'texture')!.pipeline
      if (pass === null || pipeline !== wanted) {
        pass?.end()
        const timed = times.pass(step.kernel.name)
        record = timed.record
        const timestampWrites = timed.timestampWrites ? { timestampWrites: timed.timestampWrites } : {}
        pass = encoder.beginComputePass({ label: step.kernel.name, ...timestampWrites })
        pass.setPipeline(wanted)
        pipeline = wanted
      }
      pass.setBindGroup(0, bindGroups.get(step.kernel, step.bindings, params.block!), [params.offsets[index]!])
      if (chunk !== null) {
        pass.setBindGroup(1, bindGroups.texture(chunk.texture, params.block!), [params.firstOffsets[index]!])
      }
      pass.dispatchWorkgroups(...step.workgroups)
      record.dispatches += 1
      record.bytes += step.bytes
      continue
    }
    pass?.end()
    pass = null
    if (step.op === 'copy') {
      encoder.copyBufferToBuffer(step.from, step.fromOffsetBytes, step.to, step.toOffsetBytes, step.sizeBytes)
    } else {
      encoder.clearBuffer(step.buffer, step.offsetBytes, step.sizeBytes)
    }
  }
  pass?.end()
}
