// Validates an artifact of a graph-less format (safetensors): opens it again and compares every tensor with the original.
// Entry: readBack. Kept tensors must be byte-identical; compressed ones are dequantized on the CPU and compared by value.

import { AppError } from '../errors.ts'
import { openModel } from '../formats/index.ts'
import type { PlanRow } from '../jobs/protocol.ts'
import { byteLength, elementCount } from '../tensor/dtype.ts'
import type { ModelReader, SourceFile, TensorInfo } from '../tensor/model.ts'
import { ErrorSums } from './error-metrics.ts'
import { storedValues } from './stored-values.ts'
import type { ReadBackValidation, TensorReadBack } from './validation.ts'

/** Bytes compared, and elements dequantized, at a time. */
const CHUNK_BYTES = 4 * 2 ** 20
const CHUNK_ELEMENTS = 2 ** 20

type ReadBackAnswer = Omit<ReadBackValidation, 'environment' | 'seconds'>

/**
 * @param plan rows of the plan: then a kept tensor must be identical, a compressed one stored otherwise, and nothing may be
 *   there that no row explains. null: only what both files hold is compared (`tensorpress validate A B`).
 * Throws validation_failed naming the tensor, and the format errors of an unreadable artifact.
 */
export async function readBack(
  originalFiles: SourceFile[],
  artifactFiles: SourceFile[],
  plan: Pick<PlanRow, 'name' | 'action'>[] | null,
  progress: (doneShare: number) => void,
): Promise<ReadBackAnswer> {
  const original = await openModel(originalFiles)
  try {
    const artifact = await openModel(artifactFiles).catch((error: unknown) => {
      const { detail, context } = AppError.from(error)
      throw new AppError(
        'validation_failed',
        `the artifact cannot be read back: ${detail}`,
        { ...context, stage: 'open' },
        error,
      )
    })
    try {
      return await compareModels(original, artifact, plan, progress)
    } finally {
      await artifact.close()
    }
  } finally {
    await original.close()
  }
}

async function compareModels(
  original: ModelReader,
  artifact: ModelReader,
  plan: Pick<PlanRow, 'name' | 'action'>[] | null,
  progress: (doneShare: number) => void,
): Promise<ReadBackAnswer> {
  const stored = new Map(artifact.tensors.map((tensor) => [tensor.name, tensor]))
  const unexplained = new Set(stored.keys())
  const rows = plan === null ? null : new Map(plan.map((row) => [row.name, row]))
  const totalBytes = original.tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  const all = new ErrorSums()
  const tensors: TensorReadBack[] = []
  const warnings: string[] = []
  let identicalBytes = 0
  let doneBytes = 0
  for (const tensor of original.tensors) {
    const same = stored.get(tensor.name)
    const mustBeSame = rows?.get(tensor.name)?.action === 'keep'
    if (same !== undefined && isSameForm(tensor, same) && (await haveEqualBytes(original, tensor, artifact, same))) {
      unexplained.delete(tensor.name)
      tensors.push({ ...IDENTICAL, name: tensor.name, storedAs: same.dtype })
      identicalBytes += tensorBytes(tensor)
    } else if (mustBeSame) {
      throw changedAlthoughKept(tensor, same)
    } else {
      const sums = new ErrorSums()
      const { names, storedAs } = await compareValues(original, tensor, artifact, stored, sums)
      for (const name of names) unexplained.delete(name)
      all.merge(sums)
      const { maxAbsError, sqnrDb, cosine, mse } = sums
      tensors.push({ name: tensor.name, status: 'changed', storedAs, maxAbsError, sqnrDb, cosine, mse })
      if (sums.nonFiniteIntroduced > 0) {
        warnings.push(`'${tensor.name}' has ${sums.nonFiniteIntroduced} values that became NaN or infinite.`)
      }
    }
    doneBytes += tensorBytes(tensor)
    progress(totalBytes === 0 ? 1 : doneBytes / totalBytes)
  }
  checkRest(original, artifact, unexplained, rows !== null, warnings)
  const changed = tensors.filter(({ status }) => status === 'changed')
  return {
    kind: 'read-back',
    tensors,
    identicalTensors: tensors.length - changed.length,
    identicalBytes,
    changedTensors: changed.length,
    sqnrDb: all.sqnrDb,
    cosine: all.cosine,
    mse: all.mse,
    worst: worstOf(changed),
    warnings,
  }
}

const IDENTICAL = { status: 'identical', maxAbsError: 0, sqnrDb: null, cosine: null, mse: 0 } as const

function checkRest(
  original: ModelReader,
  artifact: ModelReader,
  unexplained: Set<string>,
  strict: boolean,
  warnings: string[],
): void {
  if (unexplained.size > 0) {
    const names = [...unexplained].slice(0, 5).map((name) => `'${name}'`)
    const sentence = `the artifact holds ${unexplained.size} tensors that the original does not explain: ${names.join(', ')}`
    if (strict)
      throw new AppError('validation_failed', `${sentence}.`, {
        stage: 'read-back',
        tensors: [...unexplained].slice(0, 50),
      })
    warnings.push(`${sentence}.`)
  }
  for (const [key, value] of Object.entries(original.summary.metadata)) {
    if (artifact.summary.metadata[key] === value || key === 'quantization_config') continue
    throw new AppError('validation_failed', `the artifact lost or changed the metadata entry '${key}'.`, {
      stage: 'read-back',
      key,
    })
  }
}

function worstOf(changed: TensorReadBack[]): ReadBackAnswer['worst'] {
  let worst: TensorReadBack | null = null
  for (const tensor of changed) {
    if (tensor.sqnrDb !== null && tensor.sqnrDb < (worst?.sqnrDb ?? Number.POSITIVE_INFINITY)) worst = tensor
  }
  return worst === null ? null : { name: worst.name, sqnrDb: worst.sqnrDb, cosine: worst.cosine }
}

function isSameForm(a: TensorInfo, b: TensorInfo): boolean {
  return a.dtype === b.dtype && a.shape.length === b.shape.length && a.shape.every((dim, axis) => dim === b.shape[axis])
}

function tensorBytes(tensor: TensorInfo): number {
  return byteLength(tensor.dtype, elementCount(tensor.shape))
}

async function haveEqualBytes(
  a: ModelReader,
  tensorA: TensorInfo,
  b: ModelReader,
  tensorB: TensorInfo,
): Promise<boolean> {
  const total = tensorBytes(tensorA)
  const bytesA = Buffer.alloc(Math.min(total, CHUNK_BYTES))
  const bytesB = Buffer.alloc(bytesA.length)
  for (let offset = 0; offset < total; offset += CHUNK_BYTES) {
    const size = Math.min(CHUNK_BYTES, total - offset)
    await Promise.all([
      a.read(tensorA.data, offset, bytesA.subarray(0, size)),
      b.read(tensorB.data, offset, bytesB.subarray(0, size)),
    ])
    if (!bytesA.subarray(0, size).equals(bytesB.subarray(0, size))) return false
  }
  return true
}

function changedAlthoughKept(tensor: TensorInfo, found: TensorInfo | undefined): AppError {
  const describe = ({ dtype, shape }: TensorInfo) => `${dtype} [${shape.join(', ')}]`
  const what =
    found === undefined
      ? 'is missing from the artifact'
      : isSameForm(tensor, found)
        ? 'has other bytes in the artifact'
        : `is ${describe(found)} in the artifact`
  return new AppError('validation_failed', `'${tensor.name}' ${describe(tensor)} was to stay as it is, but ${what}.`, {
    stage: 'read-back',
    tensor: tensor.name,
  })
}

/** Adds original minus dequantized to `sums`; answers how the tensor is stored. */
async function compareValues(
  original: ModelReader,
  tensor: TensorInfo,
  artifact: ModelReader,
  stored: ReadonlyMap<string, TensorInfo>,
  sums: ErrorSums,
): Promise<{ names: string[]; storedAs: string }> {
  const before = await storedValues(original, new Map([[tensor.name, tensor]]), tensor.name)
  const after = await storedValues(artifact, stored, tensor.name)
  if (before === null || after === null || before.elements !== after.elements) {
    const found = after === null ? 'no readable form of it' : `${after.elements} elements as ${after.storedAs}`
    throw new AppError(
      'validation_failed',
      `'${tensor.name}' ${tensor.dtype} [${tensor.shape.join(', ')}]: the artifact holds ${found}.`,
      { stage: 'read-back', tensor: tensor.name },
    )
  }
  const size = Math.min(CHUNK_ELEMENTS, before.elements)
  const x = new Float32Array(size)
  const y = new Float32Array(size)
  for (let start = 0; start < before.elements; start += CHUNK_ELEMENTS) {
    const count = Math.min(CHUNK_ELEMENTS, before.elements - start)
    await Promise.all([before.read(start, x.subarray(0, count)), after.read(start, y.subarray(0, count))])
    sums.add(x.subarray(0, count), y.subarray(0, count))
  }
  return { names: after.names, storedAs: after.storedAs }
}
