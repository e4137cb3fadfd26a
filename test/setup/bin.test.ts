// bin/tensorpress under the Node of this run and, where one is on PATH, under an older one, which must start the newer one as
// its child and pass everything on.

import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

const bin = join(import.meta.dirname, '..', '..', 'bin', 'tensorpress')
const folder = await mkdtemp(join(tmpdir(), 'tensorpress-bin-'))
after(() => rm(folder, { recursive: true, force: true }))

function olderNode(): string | null {
  for (const entry of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(entry, 'node')
    if (!existsSync(path)) continue
    const version = execFileSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' })
    if (Number.parseInt(version, 10) < 24 && Number.parseInt(version, 10) >= 18) return path
  }
  return null
}

const older = olderNode()
const skip = older === null ? 'no Node 18 to 23 is on PATH' : false

function start(
  node: string,
  path: string,
  args: string[],
): { child: ChildProcess; output: () => string; end: Promise<number | null> } {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn(node, [path, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  return { child, output: () => output, end: promise }
}

/** Pids of processes whose parent is `pid`, from Linux' /proc. */
function childrenOf(pid: number): number[] {
  return execFileSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' })
    .split('\n')
    .map(Number)
    .filter((child) => child > 0)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

async function until(what: string, done: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000
  while (!done()) {
    assert(Date.now() < deadline, `still not: ${what}`)
    await sleep(50)
  }
}

test('prints its version, also through a symbolic link', async () => {
  const link = join(folder, 'tp')
  await symlink(bin, link)
  for (const path of [bin, link]) {
    const run = start(process.execPath, path, ['--version'])
    assert.equal(await run.end, 0)
    assert.match(run.output(), /^\d+\.\d+\.\d+\n$/)
  }
})

test('exit statuses arrive through an older Node', { skip }, async () => {
  const good = start(older!, bin, ['--version'])
  assert.equal(await good.end, 0)
  assert.match(good.output(), /^\d+\.\d+\.\d+\n$/)
  const bad = start(older!, bin, ['compress'])
  assert.equal(await bad.end, 2)
  assert.match(bad.output(), /MODEL is missing/)
})

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`${signal} to an older Node ends the server that it started`, { skip }, async () => {
    const data = join(folder, signal)
    const run = start(older!, bin, ['serve', '--port', '0', '--data-dir', data, '--device', 'reference'])
    await until('the server says its address', () => /http:\/\/127\.0\.0\.1:\d+/.test(run.output()))
    const [server] = childrenOf(run.child.pid!)
    assert(server !== undefined)
    run.child.kill(signal)
    const status = await run.end
    if (signal === 'SIGTERM') assert.equal(status, 0)
    await until('the server is gone', () => !isAlive(server))
  })
}
