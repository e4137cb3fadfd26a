// The contract between the executor and whatever runs kernels. Two implementations: webgpu-device.ts (Dawn; the only
// importer of `webgpu`) and reference-device.ts (scalar TypeScript, same bytes). Buffers are u32 words; a kernel sees the
// same words on both.

/** How a kernel binds: inputs, then outputs, then the uniform `params` last. */
export interface KernelBinding {
  name: string
  access: 'read' | 'read_write'
  /** Takes a ChunkBuffer as well as any other. Only the first binding. */
  chunk?: true
}

/**
 * One GPU kernel. `name` is the stem of shaders/<name>.wgsl and of src/kernels/<name>.ts.
 * `reference` does to the word arrays exactly what the shader does (bytes equal; fields documented as statistics may differ
 * by float summation order). `params` is the uniform block as u32 words, its length a multiple of 4.
 */
export interface Kernel {
  name: string
  bindings: KernelBinding[]
  paramWords: number
  workgroupSize: number
  /** Files of shaders/lib that the shader calls, appended to it as they are. */
  library?: readonly string[]
  /** The shader exchanges values between teams of 8 lanes: only where ComputeDevice.tuning.subgroups is set. */
  subgroups?: true
  reference(buffers: Uint32Array[], params: Uint32Array, workgroups: [number, number, number]): void
}

/** Device memory, zero-filled when created. Owned by whoever created it; destroy() returns it to the byte budget. */
export interface DeviceBuffer {
  readonly label: string
  readonly sizeBytes: number
  destroy(): void
}

/**
 * A chunk of weights on its way to kernels: host memory to read a file into, and device memory in the form that suits the
 * adapter. Only kernels read it, through a binding with `chunk`; it cannot be copied or read back.
 */
export interface ChunkBuffer extends DeviceBuffer {
  /**
   * `sizeBytes` of host memory, with whatever was there; valid until upload(), destroy() and close(), so nothing may still be read
   * into it by then. Waits while the device still copies from it.
   */
  host(): Promise<Uint8Array>
  /** Hands the first bytes of host() to the device (a multiple of 4). Submitted work that reads the chunk must be done. */
  upload(sizeBytes: number): void
}

/** What kernels of prepare() will read: chunks, or plain buffers in their place (pruned weights). */
export type ChunkForm = 'chunk' | 'buffer'

/** A whole buffer, or a part of it (offset a multiple of limits.offsetAlignmentBytes). */
export type BufferSlice = DeviceBuffer | { buffer: DeviceBuffer; offsetBytes: number; sizeBytes: number }

export type Command =
  | {
      op: 'run'
      kernel: Kernel
      buffers: BufferSlice[]
      params: Uint32Array
      workgroups: [number, number, number]
      bytes: number
    }
  | {
      op: 'copy'
      from: DeviceBuffer
      fromOffsetBytes: number
      to: DeviceBuffer
      toOffsetBytes: number
      sizeBytes: number
    }
  | { op: 'clear'; buffer: DeviceBuffer; offsetBytes: number; sizeBytes: number }

/** A range to bring back once the commands have run. `consume` sees a view that is valid until its promise settles. */
export interface Readback {
  buffer: DeviceBuffer
  offsetBytes: number
  sizeBytes: number
  consume(view: Uint8Array): void | Promise<void>
}

export interface DeviceInfo {
  kind: 'webgpu' | 'reference'
  /** Names as the driver gives them; 'reference' for the scalar device. */
  adapter: string
  vendor: string
  architecture: string
  driver: string
  software: boolean
}

export interface DeviceLimits {
  maxBindingBytes: number
  maxBufferBytes: number
  maxWorkgroupsPerDimension: number
  offsetAlignmentBytes: number
  /** Budget for all DeviceBuffers together; createBuffer beyond it throws gpu_memory_exceeded. */
  budgetBytes: number
}

export interface KernelTime {
  kernel: string
  dispatches: number
  /** GPU seconds from timestamp queries; wall seconds where the adapter has none (see `source`). */
  seconds: number
  bytes: number
  source: 'timestamp' | 'wall'
}

export interface ComputeDevice {
  readonly info: DeviceInfo
  readonly limits: DeviceLimits
  /**
   * Chunk bytes, lanes and segment elements that suit this device, and whether its kernels may use subgroups of 8 to 64 lanes;
   * results never depend on them.
   */
  readonly tuning: { chunkBytes: number; lanes: number; segmentElements: number; subgroups: boolean }
  /** Resolves (never rejects) with the reason when the device is lost. */
  readonly lost: Promise<string>
  /** Builds and warms pipelines, so that no JIT lands in a job. */
  prepare(kernels: readonly Kernel[], form?: ChunkForm): Promise<void>
  createBuffer(label: string, sizeBytes: number): DeviceBuffer
  createChunk(label: string, sizeBytes: number): ChunkBuffer
  /** Copies host bytes in. The buffer must be idle (no submitted work that uses it is unfinished). Size a multiple of 4. */
  write(buffer: DeviceBuffer, offsetBytes: number, data: Uint8Array): void
  /** Runs commands in order, then the readbacks; resolves when all `consume` promises have settled. Throws device_lost. */
  submit(commands: Command[], readbacks?: Readback[]): Promise<void>
  kernelTimes(): KernelTime[]
  /** Waits for work in flight, frees everything. */
  close(): Promise<void>
}
