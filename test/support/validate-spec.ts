// A ValidateSpec for two files on disk, with quick settings. Entry: validateSpec.

import { statSync } from 'node:fs'
import { basename } from 'node:path'
import type { ValidateSpec } from '../../src/jobs/protocol.ts'
import type { SourceFile } from '../../src/tensor/model.ts'

export function sourceFile(path: string): SourceFile {
  return { name: basename(path), path, sizeBytes: statSync(path).size }
}

export function validateSpec(original: string, artifact: string, more: Partial<ValidateSpec> = {}): ValidateSpec {
  return {
    original: {
      mainPath: original,
      format: original.endsWith('.safetensors') ? 'safetensors' : 'onnx',
      files: [sourceFile(original)],
    },
    artifact: { mainPath: artifact, files: [sourceFile(artifact)] },
    datasetPath: null,
    seed: 1,
    threads: 1,
    x64QuantPrecision: null,
    latencyRuns: 5,
    memoryLimitBytes: null,
    ...more,
  }
}
