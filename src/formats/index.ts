// The model formats, one line each, and the one way to open a model. Entry functions: openModel and recogniseModel.

import type { ModelFormat, ModelReader, SourceFile } from '../tensor/model.ts'
import { detectFormat } from './detect.ts'
import { onnx } from './onnx/index.ts'
import { safetensors } from './safetensors/index.ts'

export const FORMATS: readonly ModelFormat[] = [onnx, safetensors]

/** The format of these files by content. Throws format_unrecognised with what the file looks like. */
export function recogniseModel(files: readonly SourceFile[]): Promise<ModelFormat> {
  return detectFormat(files, FORMATS)
}

/** Opens the model that these files form (in any order). The caller must `close` the reader. Throws AppError. */
export async function openModel(files: SourceFile[]): Promise<ModelReader> {
  const format = await recogniseModel(files)
  return format.open(files)
}

/** Names of the further files that a main file refers to, relative to its folder. Throws as recogniseModel and the format do. */
export async function modelCompanions(main: SourceFile): Promise<string[]> {
  const format = await recogniseModel([main])
  return format.companions ? format.companions(main) : []
}
