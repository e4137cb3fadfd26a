// Runs test files in a process of their own and says what came of each test. Entry: runTests.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'

/** Names of tests by outcome. */
export interface TestRun {
  passed: string[]
  failed: string[]
  skipped: string[]
}

export interface TestSelection {
  /** The tree to run in. */
  root: string
  files: readonly string[]
  /** Only tests whose name starts so. */
  name?: string
  env?: Record<string, string>
  /** Of a single test: one that hangs has failed. */
  testMs: number
}

export async function runTests({ root, files, name, env = {}, testMs }: TestSelection): Promise<TestRun> {
  const pattern = name?.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&')
  const selection = pattern === undefined ? [] : [`--test-name-pattern=^${pattern}`]
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env // a test run of its own, also below another one
  const args = [
    '--test',
    '--test-reporter=tap',
    '--test-concurrency=1',
    `--test-timeout=${testMs}`,
    ...selection,
    ...files,
  ]
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...inherited, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const [output] = await Promise.all([text(child.stdout), once(child, 'exit')])
  return readTap(output)
}

export function readTap(output: string): TestRun {
  const run: TestRun = { passed: [], failed: [], skipped: [] }
  for (const line of output.split('\n')) {
    const [, not, name = '', skipped] = /^\s*(not )?ok \d+ - (.*?)( # SKIP.*)?$/.exec(line) ?? []
    if (name === '') continue
    const outcome = skipped !== undefined ? 'skipped' : not === undefined ? 'passed' : 'failed'
    run[outcome].push(name.replaceAll(/\\(.)/g, '$1'))
  }
  return run
}
