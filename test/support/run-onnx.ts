// Runs models in onnxruntime, in a child process: native code that aborts must not take the test runner along.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { InputTensor, OutputTensor } from '../../src/runtime/ort-session.ts'

export interface RunRequest {
  path: string
  feeds: Record<string, InputTensor>
}

export type RunReply = { outputs: Record<string, OutputTensor> } | { error: string }

const CHILD = fileURLToPath(new URL('./run-onnx-child.ts', import.meta.url))

/** Loads and runs each model once, one after the other in one child. Throws the first error, named by the model's path. */
export async function runOnnx(requests: RunRequest[]): Promise<Record<string, OutputTensor>[]> {
  const replies = await runOnnxReplies(requests)
  return replies.map((reply, index) => {
    if ('error' in reply) throw new Error(`${requests[index]?.path}: ${reply.error}`)
    return reply.outputs
  })
}

/** As runOnnx, with errors as replies. */
export async function runOnnxReplies(requests: RunRequest[]): Promise<RunReply[]> {
  const child = fork(CHILD, [], { serialization: 'advanced', execArgv: [] })
  try {
    child.send(requests)
    const ended = once(child, 'exit').then(([code, signal]) => {
      throw new Error(`the onnxruntime child ended with ${code ?? signal}`)
    })
    const [replies] = (await Promise.race([once(child, 'message'), ended])) as [RunReply[]]
    ended.catch(() => {})
    return replies
  } finally {
    if (child.connected) child.disconnect()
  }
}

/** An f32 input. */
export function floatInput(dims: readonly number[], values: Float32Array): InputTensor {
  return { dtype: 'f32', dims, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}
