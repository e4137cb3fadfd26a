// The ONNX format: recognition by content, and the door to the reader (loaded when a model is opened, not before).
// Spec: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto

import type { ModelFormat } from '../../tensor/model.ts'
import { matchOnnx } from './recognise.ts'

export const onnx: ModelFormat = {
  id: 'onnx',
  extensions: ['.onnx'],
  match: matchOnnx,
  async companions(main) {
    const { onnxCompanions } = await import('./reader.ts')
    return onnxCompanions(main)
  },
  async open(files) {
    const { openOnnx } = await import('./reader.ts')
    return openOnnx(files)
  },
}
