// The inspect child: opens untrusted model files, describes them and plans jobs, without a device and without onnxruntime.
// Started with an IPC channel (src/jobs/protocol.ts); a hostile file can at worst end this process.

import { AppError } from '../errors.ts'
import { checkLabelRange, declaredClassCount, matchDataset, openDataset } from '../validate/dataset.ts'
import { type RequestHandler, send, serveChild } from './child-server.ts'
import { answerDescribing, withModel } from './describe-model.ts'
import { planJob } from './plan-job.ts'
import type { DatasetDescription, DatasetFit, ModelValues } from './protocol.ts'

/** The arrays of an .npz file; no array is read. */
async function describeDataset(path: string): Promise<DatasetDescription> {
  const dataset = await openDataset(path)
  try {
    return { arrays: dataset.arrays.map(({ name, dtype, shape }) => ({ name, dtype, shape })) }
  } finally {
    await dataset.close()
  }
}

/**
 * Compares names, shapes and dtypes, and labels with the classes that the model declares; no other array is read.
 * Throws dataset_invalid, listing what is expected.
 */
async function fitDataset(path: string, { inputs, outputs }: ModelValues): Promise<DatasetFit> {
  const dataset = await openDataset(path)
  try {
    const matched = matchDataset(dataset, inputs)
    const labels = await matched.labels()
    const classes = declaredClassCount(inputs, outputs, matched.samplesPerRun)
    if (labels?.kind === 'classes' && classes !== null) checkLabelRange(labels, classes)
    return { sampleCount: matched.sampleCount, notes: matched.notes }
  } finally {
    await dataset.close()
  }
}

const handle: RequestHandler = async (request) => {
  switch (request.type) {
    case 'describe':
    case 'companions':
      return answerDescribing(request)
    case 'describe-dataset':
      return describeDataset(request.path)
    case 'match-dataset':
      return fitDataset(request.path, request.model)
    case 'plan':
      return withModel(request.files, (reader) => planJob(reader, request.recipe, request.output).document)
    default:
      throw new AppError('internal', `the inspect child does not answer "${request.type}"`)
  }
}

if (import.meta.main) {
  serveChild(handle, async () => {})
  send({
    type: 'ready',
    device: null,
    limits: null,
    startSeconds: process.uptime(),
    rssBytes: process.memoryUsage.rss(),
  })
}
