// `npm run check`: everything that can be judged without running the product, in under two minutes: types, lint and format
// (warnings count), generated files against their sources, import layers and the equality of docs and tables. Each step's
// output is shown only when it fails. `npm run generate` is the same list of generators in writing mode (--write).

import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

interface Step {
  name: string
  command: string[]
}

const root = join(import.meta.dirname, '..')
const bin = (name: string) => join(root, 'node_modules', '.bin', name)
const generators = readdirSync(join(root, 'scripts')).filter((name) => /^generate-.*\.ts$/.test(name))

const checks: Step[] = [
  { name: 'types', command: [bin('tsc')] },
  { name: 'lint and format', command: [bin('biome'), 'ci', '--error-on-warnings', '--colors=off'] },
  ...generators.map((name) => ({
    name: `generated files: ${name}`,
    command: [process.execPath, join('scripts', name), '--check'],
  })),
  {
    name: 'architecture and docs',
    command: [process.execPath, '--test', '--test-reporter=spec', 'test/architecture/*.test.ts'],
  },
]

const writes: Step[] = generators.map((name) => ({
  name,
  command: [process.execPath, join('scripts', name)],
}))

/** Runs one step; resolves with its exit status and everything it printed. */
function run(step: Step): Promise<{ status: number; output: string; seconds: number }> {
  const start = performance.now()
  const { promise, resolve } = Promise.withResolvers<{ status: number; output: string; seconds: number }>()
  const child = spawn(step.command[0]!, step.command.slice(1), { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk
  })
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk
  })
  child.once('error', (error) => resolve({ status: 1, output: error.message, seconds: 0 }))
  child.once('close', (code) => resolve({ status: code ?? 1, output, seconds: (performance.now() - start) / 1000 }))
  return promise
}

let failed = 0
for (const step of process.argv.includes('--write') ? writes : checks) {
  const { status, output, seconds } = await run(step)
  const passed = status === 0 && !testsMissing(step, output)
  process.stdout.write(`${passed ? 'ok    ' : 'FAILED'} ${step.name} (${seconds.toFixed(1)} s)\n`)
  if (passed) continue
  failed++
  process.stdout.write(`${output.trimEnd()}\n`)
}
process.exitCode = failed === 0 ? 0 : 1

/** A glob that matches nothing ends with 0 as well. */
function testsMissing(step: Step, output: string): boolean {
  return step.command.includes('--test') && !/^\S+ pass [1-9]/m.test(output)
}
