// The library: `import { compress } from 'tensorpress'`. The same engine and the same child processes as the command line, no
// server: every call starts its children and ends them. Errors are AppError with the codes of docs/errors.md.

import { AppError } from './errors.ts'
import { withGpuWorker } from './local/children.ts'
import { type CompressOptions, type CompressOutcome, compressModel } from './local/compress-model.ts'
import { localWork } from './local/local-work.ts'
import type { Report } from './validate/report.ts'

export { AppError, type ErrorCode, type ErrorKind } from './errors.ts'
export type { ModelDescription, PlanDocument, Progress } from './jobs/protocol.ts'
export type { CompressOptions } from './local/compress-model.ts'
export {
  type InspectOptions,
  inspectModel as inspect,
  type PlanOptions,
  planModel as plan,
} from './local/describe-model.ts'
export { type ValidateOptions, type ValidateOutcome, validateModel as validate } from './local/validate-model.ts'
export type { Report } from './validate/report.ts'
export { METRICS, type Metric, type Requirement } from './validate/requirement.ts'
export { VERSION } from './version.ts'

const NODE_MAJOR = 24
if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR) {
  throw new AppError(
    'feature_unsupported',
    `the library needs Node ${NODE_MAJOR} or later, this is ${process.version}; the command line fetches one by itself`,
  )
}

export type CompressResult = Pick<CompressOutcome, 'files' | 'report'>

/** Code `requirement_not_met`: nothing was written, and the report says by how much it is missed. */
export class RequirementNotMetError extends AppError {
  readonly report: Report

  constructor(report: Report) {
    super('requirement_not_met', report.verdict.sentence)
    this.name = 'RequirementNotMetError'
    this.report = report
  }
}

/**
 * Compresses a model, validates the result and writes it. Resolves when its files are in place. Throws AppError, and
 * RequirementNotMetError when the result does not keep to `require`.
 */
export async function compress(options: CompressOptions): Promise<CompressResult> {
  const { device, signal } = options
  const { files, report, requirementMet } = await localWork(signal, () =>
    withGpuWorker(device, (worker) => compressModel(options, worker)),
  )
  if (requirementMet === false) throw new RequirementNotMetError(report)
  return { files, report }
}
