// Where keys come from: the environment, or a file that changes under a running server in every way that files do.

import assert from 'node:assert/strict'
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type KeyRing, openKeyRing, takeInlineKeys } from '../../src/access/key-ring.ts'
import { tempFolder } from '../support/temp-folder.ts'

const SECRET = (name: string) => `${name}-0123456789-0123456789-0123456789`
const entry = (name: string) => `${name}:read:${SECRET(name)}`
const REREAD_MS = 10

interface Line {
  level: 'info' | 'error'
  message: string
  fields: Record<string, unknown>
}

async function ring(t: { after(fn: () => void): void }, source: Parameters<typeof openKeyRing>[0]) {
  const lines: Line[] = []
  const log = (level: Line['level']) => (fields: Record<string, unknown>, message: string) => {
    lines.push({ level, message, fields })
  }
  const keys = await openKeyRing(source, { info: log('info'), error: log('error') }, REREAD_MS)
  t.after(() => keys.close())
  return { keys, lines }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (condition()) return
    await sleep(10)
  }
  throw new Error(`not in 5 s: ${what}`)
}

const knows = (keys: KeyRing, name: string) => keys.identify(SECRET(name))?.name === name

test('no keys at all: none are required', async (t) => {
  const { keys } = await ring(t, {})
  assert.deepEqual([keys.required, keys.count, keys.identify('x')], [false, 0, null])
})

test('inline keys are taken out of the environment, so that children do not inherit them', () => {
  const environment: NodeJS.ProcessEnv = { TENSORPRESS_API_KEYS: entry('a'), PATH: '/bin' }
  assert.equal(takeInlineKeys(environment), entry('a'))
  assert.deepEqual(environment, { PATH: '/bin' })
  assert.equal(takeInlineKeys(environment), undefined)
})

test('an empty variable, an empty file and a file that is not there are refused, not taken for "no keys"', async (t) => {
  const folder = tempFolder(t)
  const empty = join(folder, 'empty')
  writeFileSync(empty, '\n# nobody\n')
  await assert.rejects(ring(t, { inline: '' }), { code: 'usage', message: /TENSORPRESS_API_KEYS holds no key/ })
  await assert.rejects(ring(t, { file: empty }), { code: 'usage', message: /empty holds no key/ })
  await assert.rejects(ring(t, { file: join(folder, 'none') }), { code: 'usage', message: /cannot be read: ENOENT/ })
  await assert.rejects(ring(t, { file: folder }), { code: 'usage', message: /cannot be read: EISDIR/ })
  await assert.rejects(ring(t, { inline: entry('a'), file: empty }), { code: 'usage', message: /both set/ })
})

test('a file that is too large to hold keys is refused before it is read', async (t) => {
  const file = join(tempFolder(t), 'keys')
  writeFileSync(file, `${entry('a')}\n${'#'.repeat(1024 * 1024)}`)
  await assert.rejects(ring(t, { file }), {
    code: 'usage',
    message: /has 10\d{5} bytes; a file of API keys has 1048576/,
  })
})

test('a file that is written anew, or renamed over, changes the keys', async (t) => {
  const folder = tempFolder(t)
  const file = join(folder, 'keys')
  writeFileSync(file, entry('a'))
  const { keys, lines } = await ring(t, { file })
  assert.deepEqual([keys.required, knows(keys, 'a'), knows(keys, 'b')], [true, true, false])
  writeFileSync(file, entry('b'))
  await until(() => knows(keys, 'b'), 'written anew')
  assert.equal(knows(keys, 'a'), false)
  writeFileSync(join(folder, 'new'), `${entry('b')}\n${entry('c')}`)
  renameSync(join(folder, 'new'), file)
  await until(() => keys.count === 2, 'renamed over')
  assert.deepEqual(lines, [
    { level: 'info', message: 'API keys changed', fields: { names: ['b'], names_before: ['a'] } },
    { level: 'info', message: 'API keys changed', fields: { names: ['b', 'c'], names_before: ['b'] } },
  ])
})

test('a link that is swapped, as Kubernetes swaps ..data of a mounted secret, changes the keys', async (t) => {
  const folder = tempFolder(t)
  for (const name of ['a', 'b']) {
    mkdirSync(join(folder, `..${name}`))
    writeFileSync(join(folder, `..${name}`, 'keys'), entry(name))
  }
  symlinkSync('..a', join(folder, '..data'))
  symlinkSync('..data/keys', join(folder, 'keys'))
  const { keys } = await ring(t, { file: join(folder, 'keys') })
  assert.equal(knows(keys, 'a'), true)
  symlinkSync('..b', join(folder, '..data_tmp'))
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'))
  rmSync(join(folder, '..a'), { recursive: true })
  await until(() => knows(keys, 'b'), 'the link was swapped')
  assert.equal(knows(keys, 'a'), false)
})

test('a bad new content leaves the keys as they were, is logged once, and a good one heals it', async (t) => {
  const file = join(tempFolder(t), 'keys')
  writeFileSync(file, entry('a'))
  const { keys, lines } = await ring(t, { file })
  for (const [content, detail] of [
    ['a:read:short', `${file}, line 1: the secret of key "a" has 5 characters`],
    ['', `${file} holds no key`],
  ]) {
    lines.length = 0
    writeFileSync(file, content!)
    await until(() => lines.length > 0, 'the error')
    await sleep(5 * REREAD_MS)
    assert.equal(lines.length, 1)
    assert.equal(lines[0]!.level, 'error')
    assert.ok(String(lines[0]!.fields['error']).startsWith(detail!), String(lines[0]!.fields['error']))
    assert.deepEqual([keys.current, keys.required, knows(keys, 'a')], [false, true, true])
  }
  rmSync(file)
  await until(() => lines.length === 2, 'the error of a file that is gone')
  assert.equal(knows(keys, 'a'), true)
  writeFileSync(file, entry('b'))
  await until(() => knows(keys, 'b'), 'a good file')
  assert.equal(keys.current, true)
})
