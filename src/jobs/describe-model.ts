// What a model file holds, for the children that meet untrusted files: the inspect child, and the GPU worker of the command
// line before it opens its device. Entry: answerDescribing.

import { modelCompanions, openModel } from '../formats/index.ts'
import { DTYPES, elementCount } from '../tensor/dtype.ts'
import { dataLength, type ModelReader, type SourceFile } from '../tensor/model.ts'
import type { ChildRequest, ModelDescription } from './protocol.ts'

type DescribingRequest = Extract<ChildRequest, { type: 'describe' | 'companions' }>

export function answerDescribing(request: DescribingRequest): Promise<ModelDescription | string[]> {
  return request.type === 'describe' ? withModel(request.files, describeModel) : modelCompanions(request.main)
}

/** The description of an opened model: summary, files and the tensor table. */
export function describeModel(reader: ModelReader): ModelDescription {
  const tensors = reader.tensors.map((tensor) => ({
    name: tensor.name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    elements: elementCount(tensor.shape),
    bytes: dataLength(tensor.data),
    roles: tensor.roles,
    uses: tensor.uses,
    locked: tensor.locked,
  }))
  return {
    summary: reader.summary,
    files: reader.files.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
    tensorCount: tensors.length,
    parameterCount: tensors.reduce((sum, row) => sum + (DTYPES[row.dtype].bits > 0 ? row.elements : 0), 0),
    tensors,
  }
}

export async function withModel<T>(files: SourceFile[], use: (reader: ModelReader) => T): Promise<T> {
  const reader = await openModel(files)
  try {
    return use(reader)
  } finally {
    await reader.close()
  }
}
