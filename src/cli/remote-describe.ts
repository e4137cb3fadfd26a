// tensorpress inspect and plan with --server: the model is sent unless the server has it, and the server says what the inspect child
// would say here. Entries: inspectOnServer, planOnServer.

import type { Client, Model, Tensor } from '../client/index.ts'
import type { ModelDescription, PlanDocument } from '../jobs/protocol.ts'
import type { InspectOptions, PlanOptions } from '../local/describe-model.ts'
import { outputTarget } from '../local/output-files.ts'
import { readRecipe } from '../local/read-recipe.ts'
import type { CommandLine } from './command.ts'
import { progressDisplay } from './progress-display.ts'
import { gatherLocally, sendModel } from './remote-model.ts'
import { connect, remotely } from './remote-server.ts'

/** The most that one page of the tensor table may hold. */
const PAGE_ROWS = 1000

/** Throws AppError. */
export async function inspectOnServer(
  server: string,
  args: CommandLine,
  { model: path, signal }: OnServer<InspectOptions>,
): Promise<ModelDescription> {
  const client = await connect(server, args)
  const { files } = await gatherLocally(path, signal)
  return remotely(async () => {
    const model = await sent(client, args, files, signal)
    return descriptionOf(model, await tensorsOf(client, model, signal))
  })
}

/** Throws AppError. */
export async function planOnServer(
  server: string,
  args: CommandLine,
  { model: path, recipe: source, signal }: OnServer<PlanOptions>,
): Promise<PlanDocument> {
  const { recipe, output } = await readRecipe(source)
  const client = await connect(server, args)
  const gathered = await gatherLocally(path, signal)
  const { fileName } = await outputTarget(gathered, recipe.name, undefined)
  return remotely(async () => {
    const model = await sent(client, args, gathered.files, signal)
    const body = { model: model.id, recipe: { ...recipe }, output: { ...output, fileName } }
    return (await client.call('createPlan', { body }, { signal })) as PlanDocument
  })
}

type OnServer<Options> = Options & { signal: AbortSignal }

async function sent(
  client: Client,
  args: CommandLine,
  files: Parameters<typeof sendModel>[1],
  signal: AbortSignal,
): Promise<Model> {
  const display = progressDisplay(process.stderr, { quiet: args.given('json') })
  try {
    return await sendModel(client, files, display.show, signal)
  } finally {
    display.end()
  }
}

async function tensorsOf(client: Client, { id, tensorCount }: Model, signal: AbortSignal): Promise<Tensor[]> {
  const rows: Tensor[] = []
  while (rows.length < tensorCount) {
    const query = { offset: rows.length, limit: PAGE_ROWS }
    const { items } = await client.call('listTensors', { path: { id }, query }, { signal })
    if (items.length === 0) break
    rows.push(...items)
  }
  return rows
}

/** The document that the inspect child makes of the same files. */
function descriptionOf(model: Model, tensors: Tensor[]): ModelDescription {
  const { format, irVersion, opset, producer, inputs, outputs, metadata, alreadyCompressed, notes } = model
  const summary = { format, irVersion, opset, producer, inputs, outputs, metadata, alreadyCompressed, notes }
  return {
    summary: summary as ModelDescription['summary'],
    files: model.files.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
    tensorCount: model.tensorCount,
    parameterCount: model.parameterCount,
    tensors: tensors as ModelDescription['tensors'],
  }
}
