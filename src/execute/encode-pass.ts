// What the encoders of one execution share.

import type { ModelReader } from '../tensor/model.ts'
import type { OutputFiles } from './output-files.ts'
import type { TransposeAccumulators } from './transpose-accumulators.ts'

export interface EncodePass {
  reader: ModelReader
  output: OutputFiles
  accumulators: TransposeAccumulators
}
