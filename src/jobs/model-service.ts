// Models and datasets for the HTTP layer: uploads are staged, described in the inspect child, then published. Entries:
// createModelService, createDatasetService, createPlanService.

import { join } from 'node:path'
import { AppError } from '../errors.ts'
import type { Catalog, DatasetRecord, ModelRecord } from '../store/catalog.ts'
import type { DataFolder } from '../store/data-folder.ts'
import type { DatasetStore } from '../store/dataset-store.ts'
import type { ModelStore } from '../store/model-store.ts'
import type { StoreQuota } from '../store/store-quota.ts'
import { createStagedUpload, type StagedFiles, type StagedUpload, type UploadLimits } from '../store/upload.ts'
import type { OutputOptions } from '../tensor/model.ts'
import { artifactFileName, checkArtifactName } from './artifact-key.ts'
import { type RecipeDocument, resolveRecipe } from './recipe.ts'
import type {
  DatasetService,
  DatasetView,
  ModelService,
  ModelView,
  PlanRequest,
  Service,
  ServiceHooks,
  ServiceLimits,
  Upload,
} from './service.ts'
import type { GpuWorker, InspectChild } from './worker-pool.ts'

export interface ModelServiceParts {
  data: DataFolder
  catalog: Catalog
  models: ModelStore
  datasets: DatasetStore
  inspect: InspectChild
  worker: GpuWorker
  limits: ServiceLimits
  hooks: ServiceHooks
  quota: StoreQuota
}

/** Bins beyond this draw nothing that fewer would not. */
const MAX_HISTOGRAM_BINS = 4096

/** Describes staged files in the inspect child and publishes them; the first is the main one. */
export async function commitModel(
  parts: ModelServiceParts,
  upload: StagedFiles,
): Promise<{ view: ModelView; created: boolean }> {
  const { models, inspect, limits, hooks } = parts
  const files = upload.files.map(({ name, sizeBytes }) => ({ name, sizeBytes, path: join(upload.folder, name) }))
  if (files.length === 0) {
    throw new AppError('request_invalid', 'No file was sent. Send the model in part "model".', { path: 'model' })
  }
  const { summary, tensors, tensorCount, parameterCount } = await inspect.describe(files)
  if (tensorCount > limits.maxTensors) {
    throw new AppError('limit_exceeded', `The model has ${tensorCount} tensors; ${limits.maxTensors} are allowed.`, {
      limit: 'tensors',
      allowed: limits.maxTensors,
      requested: tensorCount,
    })
  }
  const { record, created } = await models.publish(upload, { summary, tensorCount, parameterCount }, tensors)
  hooks.uploaded?.('model', sumBytes(upload))
  return { view: modelView(record), created }
}

/** Describes the one staged file in the inspect child and publishes it. */
export async function commitDataset(
  parts: ModelServiceParts,
  upload: StagedFiles,
): Promise<{ view: DatasetView; created: boolean }> {
  const { datasets, inspect, hooks } = parts
  const file = upload.files[0]
  if (file === undefined) {
    throw new AppError('request_invalid', 'No file was sent. Send the .npz file in part "dataset".', {
      path: 'dataset',
    })
  }
  const { arrays } = await inspect.describeDataset(join(upload.folder, file.name))
  const { record, created } = await datasets.publish(upload, arrays)
  hooks.uploaded?.('dataset', file.sizeBytes)
  return { view: datasetView(record), created }
}

export function createModelService(parts: ModelServiceParts): ModelService {
  const { catalog, models, worker, limits } = parts

  return {
    beginUpload: () =>
      lazyUpload(parts, { maxFiles: limits.maxModelFiles, sizeLimit: 'uploadBytes' }, (upload) =>
        commitModel(parts, upload),
      ),
    async list(page) {
      const { items, next } = await catalog.listModels(page)
      return { items: items.map(modelView), next }
    },
    get: async (id) => modelView(await models.get(id)),
    async tensors(id, offset, limit) {
      const { tensorCount } = await models.get(id)
      // Rows were written from TensorRow by `commit`.
      const items = (await models.tensors(id, offset, limit)) as Awaited<ReturnType<ModelService['tensors']>>['items']
      return { items, total: tensorCount }
    },
    async histogram(id, tensor, bins) {
      if (!Number.isInteger(bins) || bins < 1 || bins > MAX_HISTOGRAM_BINS) {
        throw new AppError(
          'request_invalid',
          `bins is ${bins}; a whole number from 1 to ${MAX_HISTOGRAM_BINS} is allowed.`,
          {
            path: 'bins',
          },
        )
      }
      const record = await models.get(id)
      await catalog.touch('model', id, new Date().toISOString())
      const sources = await models.sources(record)
      return models.cached(id, JSON.stringify([tensor, bins]), () => worker.histogram(sources, tensor, bins))
    },
    delete: (id) => models.delete(id),
  }
}

export function createDatasetService(parts: ModelServiceParts): DatasetService {
  const { catalog, datasets } = parts

  return {
    beginUpload: () =>
      lazyUpload(parts, { maxFiles: 1, sizeLimit: 'datasetBytes' }, (upload) => commitDataset(parts, upload)),
    async list(page) {
      const { items, next } = await catalog.listDatasets(page)
      return { items: items.map(datasetView), next }
    },
    get: async (id) => datasetView(await datasets.get(id)),
    delete: (id) => datasets.delete(id),
  }
}

export function createPlanService({ catalog, models, inspect }: ModelServiceParts): Service['plans'] {
  return {
    async create(request) {
      const record = await models.get(request.modelId)
      await catalog.touch('model', record.id, new Date().toISOString())
      const { recipe, output } = resolveRequest(request, record)
      return inspect.plan(await models.sources(record), recipe, output)
    },
  }
}

/** The recipe and output options of a request, with every default filled in. Throws recipe_invalid, request_invalid. */
export function resolveRequest(
  request: PlanRequest,
  model: ModelRecord,
): Omit<RecipeDocument, 'output'> & { output: OutputOptions } {
  const { recipe: asked } = request
  if (typeof asked !== 'string' && (typeof asked !== 'object' || asked === null)) {
    throw new AppError('recipe_invalid', 'recipe: give a preset name, a `step+step` expression or a recipe object.', {
      path: 'recipe',
    })
  }
  const { recipe, output, require } = resolveRecipe(asked)
  const fileName = artifactFileName(model.files[0]!.name, recipe.name)
  const merged: OutputOptions = { externalData: 'auto', shardBytes: null, fileName, ...output, ...request.output }
  // a name that nobody chose is that of the model, which was checked when it came
  if (merged.fileName !== fileName) checkArtifactName(merged.fileName)
  return { recipe, output: merged, require }
}

/** The folder is made with the first file, so that an upload which never sends one costs nothing. */
function lazyUpload<View>(
  { data, limits, quota }: ModelServiceParts,
  rules: Pick<UploadLimits, 'maxFiles' | 'sizeLimit'>,
  commit: (upload: StagedUpload) => Promise<{ view: View; created: boolean }>,
): Upload<View> {
  let staged: Promise<StagedUpload> | null = null
  let discarded = false
  const { minFreeBytes } = limits
  const maxUploadBytes = rules.sizeLimit === 'datasetBytes' ? limits.maxDatasetBytes : limits.maxUploadBytes
  const stage = () => {
    staged ??= createStagedUpload(data, { ...rules, maxUploadBytes, minFreeBytes }, quota.open())
    return staged
  }
  return {
    async addFile(name, stream, declaredBytes) {
      if (discarded) throw new AppError('conflict', 'This upload was closed already.')
      return (await stage()).addFile(name, stream, declaredBytes)
    },
    async commit() {
      const upload = await stage()
      try {
        return await commit(upload)
      } finally {
        await upload.discard() // what was published has been moved out
      }
    },
    async discard() {
      discarded = true
      // A folder that could not be made holds nothing; whoever asked for it was told.
      await (await staged?.catch(() => null))?.discard()
    },
  }
}

function sumBytes(upload: StagedFiles): number {
  return upload.files.reduce((sum, file) => sum + file.sizeBytes, 0)
}

export function modelView(record: ModelRecord): ModelView {
  const { summary } = record
  return {
    id: record.id,
    format: summary.format,
    files: record.files,
    sizeBytes: record.sizeBytes,
    tensorCount: record.tensorCount,
    parameterCount: record.parameterCount,
    irVersion: summary.irVersion,
    opset: summary.opset,
    producer: summary.producer,
    inputs: summary.inputs,
    outputs: summary.outputs,
    metadata: summary.metadata,
    alreadyCompressed: summary.alreadyCompressed,
    notes: summary.notes,
    createdAt: record.createdAt,
  }
}

export function datasetView({ id, file, arrays, createdAt }: DatasetRecord): DatasetView {
  return { id, file, arrays, createdAt }
}
