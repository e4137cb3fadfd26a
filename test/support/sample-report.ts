// A report as buildReport makes it, for tests of what reads reports: a compressed tensor, a kept one, a met requirement.

import type { CompressionResult, TensorOutcome } from '../../src/jobs/protocol.ts'
import { buildReport, type Report, type ReportInput } from '../../src/validate/report.ts'

const recipe = {
  version: 1 as const,
  name: 'int8',
  steps: [
    {
      method: 'quantize',
      params: { bits: 8, granularity: 'channel', symmetric: true },
      select: { names: ['**'], exclude: [], roles: ['matmul' as const], minElements: 128 },
    },
  ],
}

const weight: TensorOutcome = {
  name: 'w',
  dtype: 'f32',
  shape: [16, 16],
  roles: ['matmul'],
  action: 'compress',
  reason: null,
  detail: 'int8 per channel',
  steps: ['quantize'],
  prune: null,
  encode: {
    kind: 'scaled-int',
    bits: 8,
    granularity: 'channel',
    axis: 1,
    symmetric: true,
    clip: { kind: 'none' },
    deadZone: null,
  },
  outputs: [{ part: 'values', dtype: 'i8', shape: [16, 16], lengthBytes: 256 }],
  bytesBefore: 1024,
  bytesAfter: 320,
  resolved: {},
  nonFinite: 0,
  measure: {
    name: 'w',
    maxAbsError: 0.01,
    sumSquaredError: 0.001,
    sqnrDb: 40,
    cosine: 0.9999,
    zerosBefore: 0,
    zerosAfter: 0,
  },
  statistics: { min: -1, max: 1, absMax: 1, mean: 0, standardDeviation: 0.5, zeros: 0, nonFinite: 0 },
}

const sha256 = 'c'.repeat(64)

const compression: CompressionResult = {
  device: {
    kind: 'webgpu',
    adapter: 'llvmpipe (LLVM 19)',
    vendor: 'mesa',
    architecture: '',
    driver: 'Mesa 25.0.7',
    software: true,
  },
  plan: {
    recipe,
    format: 'onnx',
    bytesBefore: 1024,
    bytesAfter: 320,
    outputFiles: [{ name: 'net.int8.onnx', sizeBytes: 500 }],
    peakMemoryBytes: 1e6,
    notes: [],
  },
  tensors: [weight],
  files: [{ name: 'net.int8.onnx', sizeBytes: 500, sha256, zstdBytes: 450, zstdSampled: false }],
  input: {
    files: [{ name: 'net.onnx', sizeBytes: 1200, sha256 }],
    rawBytes: 1200,
    zstdBytes: 1100,
    zstdSampled: false,
  },
  rawBytes: 500,
  zstdBytes: 450,
  seconds: { open: 0.1, calibrate: 0, encode: 0.2, finish: 0.05, measure: 0.1 },
  gpuSeconds: 0.01,
  bytesRead: 1200,
  bytesWritten: 500,
  kernelTimes: [{ kernel: 'quantize-int8', dispatches: 1, seconds: 0.01, bytes: 1280, source: 'timestamp' }],
  peakRssBytes: 1e8,
}

export function sampleReport(): Report {
  return buildReport(sampleReportInput())
}

export function sampleReportInput(): ReportInput {
  return {
    jobId: 'job-1',
    attempt: 1,
    createdAt: '2026-11-22T12:00:00.000Z',
    model: {
      id: sha256,
      fileName: 'net.onnx',
      summary: {
        format: 'onnx',
        irVersion: 8,
        opset: 17,
        producer: 'test',
        inputs: [{ name: 'x', dtype: 'f32', shape: ['n', 16] }],
        outputs: [{ name: 'y', dtype: 'f32', shape: ['n', 16] }],
        metadata: {},
        alreadyCompressed: [],
        notes: [],
      },
      files: compression.input.files,
    },
    dataset: null,
    recipe,
    output: { externalData: 'auto', shardBytes: null, fileName: 'net.int8.onnx' },
    compression,
    validation: null,
    requirements: [{ maxSizeRatio: 0.5 }],
    versions: { tensorpress: '0.0.0-test', node: '24.0.0', webgpu: '0.6.2', onnxruntime: '1.30.0' },
    stageSeconds: { opening: 0.1, encoding: 0.3, publishing: 0.01 },
    artifactReused: false,
  }
}
