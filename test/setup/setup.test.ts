// The set-up script, run as a process in a small checkout of its own whose only package is a local folder (no network).

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { copyFile, cp, mkdir, mkdtemp, readFile, realpath, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'

const repository = join(import.meta.dirname, '..', '..')
const folder = await mkdtemp(join(tmpdir(), 'tensorpress-setup-'))
after(() => rm(folder, { recursive: true, force: true }))

const MANIFEST = { name: 'small', version: '1.0.0', type: 'module', dependencies: { dep: 'file:dep' } }
const LOCK = {
  name: 'small',
  version: '1.0.0',
  lockfileVersion: 3,
  requires: true,
  packages: {
    '': { name: 'small', version: '1.0.0', dependencies: { dep: 'file:dep' } },
    dep: { version: '1.0.0' },
    'node_modules/dep': { resolved: 'dep', link: true },
  },
}

async function checkout(name: string): Promise<string> {
  const root = join(folder, name)
  await mkdir(join(root, 'scripts'), { recursive: true })
  await mkdir(join(root, 'dep'))
  for (const script of ['setup.mjs', 'vulkan.mjs']) {
    await cp(join(repository, 'scripts', script), join(root, 'scripts', script))
  }
  await writeFile(join(root, 'package.json'), JSON.stringify(MANIFEST))
  await writeFile(join(root, 'package-lock.json'), JSON.stringify(LOCK))
  await writeFile(join(root, 'dep', 'package.json'), JSON.stringify({ name: 'dep', version: '1.0.0' }))
  return root
}

async function setup(
  root: string,
  node = process.execPath,
): Promise<{ status: number | null; output: string; seconds: number }> {
  const start = performance.now()
  const { TENSORPRESS_SETUP_LOCK: _, npm_lifecycle_event: __, ...env } = process.env
  const child = spawn(node, [join(root, 'scripts', 'setup.mjs')], {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  return { status: await promise, output, seconds: (performance.now() - start) / 1000 }
}

const runsOfNpm = (output: string) => output.split('running npm ci').length - 1

test('installs once when two start at the same time, and has nothing to do afterwards', async () => {
  const root = await checkout('together')
  const both = await Promise.all([setup(root), setup(root)])
  assert.deepEqual(
    both.map(({ status }) => status),
    [0, 0],
  )
  assert.equal(runsOfNpm(both[0].output + both[1].output), 1)
  assert.equal((await stat(join(root, 'node_modules', 'dep', 'package.json'))).isFile(), true)
  const again = [await setup(root), await setup(root), await setup(root)]
  for (const { status, output } of again) assert.deepEqual([status, output], [0, ''])
  // The fastest of three, as other tests run beside this one.
  const seconds = Math.min(...again.map((run) => run.seconds))
  assert(seconds < 1, `took ${seconds} s`)
})

test('installs again when the package lock changed, not when only its date did', async () => {
  const root = await checkout('stale')
  assert.equal((await setup(root)).status, 0)
  const later = new Date(Date.now() + 60_000)
  await utimes(join(root, 'package-lock.json'), later, later)
  assert.equal(runsOfNpm((await setup(root)).output), 0)
  const lock = await readFile(join(root, 'package-lock.json'), 'utf8')
  await writeFile(join(root, 'package-lock.json'), `${lock}\n`)
  await utimes(join(root, 'package-lock.json'), later, later)
  assert.equal(runsOfNpm((await setup(root)).output), 1)
})

test('a runtime of its own stays first for npm scripts when the packages are installed again', {
  skip: process.platform !== 'linux',
}, async () => {
  const root = await checkout('own-runtime')
  // As it lies after the first set-up under an older Node: npm scripts, and this set-up among them, run under the fetched one.
  const version = /NODE_VERSION = '(.+)'/.exec(await readFile(join(root, 'scripts', 'setup.mjs'), 'utf8'))?.[1] ?? ''
  const runtimePackage = `node-${process.platform}-${process.arch}`
  const runtime = join(root, '.tools', `node-${version}`, 'node_modules', runtimePackage, 'bin', 'node')
  await mkdir(dirname(runtime), { recursive: true })
  await copyFile(process.execPath, runtime)
  assert.equal((await setup(root, runtime)).status, 0)
  const link = join(root, 'node_modules', '.bin', 'node')
  assert.equal(await realpath(link), await realpath(runtime))

  await writeFile(join(root, 'package-lock.json'), `${JSON.stringify(LOCK)}\n\n`)
  const later = new Date(Date.now() + 60_000)
  await utimes(join(root, 'package-lock.json'), later, later)
  const again = await setup(root, link)
  assert.equal(runsOfNpm(again.output), 1)
  assert.equal(await realpath(link), await realpath(runtime))
})

test('breaks the lock of a set-up that was killed', async () => {
  const root = await checkout('dead')
  await mkdir(join(root, '.tools'))
  await writeFile(join(root, '.tools', 'setup.lock'), '999999999\n')
  const { status, output } = await setup(root)
  assert.equal(status, 0)
  assert.match(output, /packages ready/)
})

test('a failing npm ci is told, with a status that stops what depends on it', async () => {
  const root = await checkout('broken')
  await writeFile(join(root, 'package-lock.json'), JSON.stringify({ ...LOCK, packages: { '': { name: 'small' } } }))
  const { status, output } = await setup(root)
  assert.equal(status, 1)
  assert.match(output, /setup: npm ci failed; its own message is above/)
})
