// A server process that tests may kill: the service with the fake GPU worker, driven over IPC. Child entry; arguments: data
// folder, limits as JSON. The parent's end is startServiceProcess in crash-server.ts.

import { Readable } from 'node:stream'
import { createService } from '../../src/jobs/create-service.ts'
import type { ServiceLimits } from '../../src/jobs/service.ts'
import { FAKE_WORKER, fakeRecipe, LOCAL_WEBHOOKS, NOTHING_CHANGED, tinyModel } from './start-service.ts'

export type Command =
  | { id: number; op: 'upload'; seed: number }
  | { id: number; op: 'job'; modelId: string; recipe: string; key: string; webhook?: string }
  | { id: number; op: 'cancel'; jobId: string }
  | { id: number; op: 'wait'; jobId: string }
  | { id: number; op: 'children' }

const service = await createService(
  {
    dataDir: process.argv[2]!,
    device: 'reference',
    limits: {
      minFreeBytes: 0,
      maxQueuedJobs: 10_000,
      ...(JSON.parse(process.argv[3] ?? '{}') as Partial<ServiceLimits>),
    },
    webhooks: LOCAL_WEBHOOKS,
  },
  { workerEntry: FAKE_WORKER, validate: async () => NOTHING_CHANGED },
)

async function answer(command: Command): Promise<unknown> {
  switch (command.op) {
    case 'upload': {
      const upload = service.models.beginUpload()
      const bytes = Buffer.from(tinyModel(command.seed, 65_536))
      await upload.addFile(
        'tiny.safetensors',
        Readable.from([bytes.subarray(0, 100_000), bytes.subarray(100_000)]),
        null,
      )
      return (await upload.commit()).view.id
    }
    case 'job': {
      const { modelId, recipe, key, webhook } = command
      const request = {
        modelId,
        recipe: fakeRecipe(recipe),
        ...(webhook === undefined ? {} : { webhook: { url: webhook } }),
      }
      return (await service.jobs.create(request, { idempotencyKey: key })).job.id
    }
    case 'cancel':
      return (await service.jobs.cancel(command.jobId)).state
    case 'wait': {
      const { state, attempt } = await service.jobs.wait(command.jobId, 60_000)
      return { state, attempt }
    }
    case 'children':
      return (await service.health()).children.map(({ pid }) => pid)
    default:
      return command satisfies never
  }
}

process.on('message', (command: Command) => {
  answer(command).then(
    (result) => process.send?.({ id: command.id, result }),
    (error: unknown) => process.send?.({ id: command.id, error: String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
process.send?.({ id: 0, result: 'ready' })
