// Child of run-onnx.ts: answers one list of requests and ends with its channel.

import { openSession } from '../../src/runtime/ort-session.ts'
import type { RunReply, RunRequest } from './run-onnx.ts'

process.once('message', (requests: RunRequest[]) => {
  void answer(requests).then((replies) => process.send?.(replies))
})

async function answer(requests: RunRequest[]): Promise<RunReply[]> {
  const replies: RunReply[] = []
  for (const { path, feeds } of requests) {
    try {
      const session = await openSession(path, { threads: 1, x64QuantPrecision: null })
      replies.push({ outputs: Object.fromEntries(await session.run(feeds)) })
      await session.release()
    } catch (error) {
      replies.push({ error: error instanceof Error ? error.message : String(error) })
    }
  }
  return replies
}
