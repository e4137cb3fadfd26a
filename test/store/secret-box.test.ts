// Sealed secrets: they open for their owner with their key, and for nobody else.

import assert from 'node:assert/strict'
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createSecretBox } from '../../src/store/secret-box.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('a sealed secret opens for its owner, also after a restart, and shows nothing of itself', async (t) => {
  const path = join(tempFolder(t), 'key')
  const first = createSecretBox(path)
  const sealed = await Promise.all(['job-1', 'job-1'].map((owner) => first.seal('geheim-ß-0123456789', owner)))
  assert.notEqual(sealed[0], sealed[1], 'the same secret twice does not look the same')
  assert.doesNotMatch(sealed[0]!, /geheim/)
  const second = createSecretBox(path)
  assert.equal(await second.open(sealed[0]!, 'job-1'), 'geheim-ß-0123456789')
  await assert.rejects(second.open(sealed[0]!, 'job-2'), { code: 'store_failed' })
  for (const broken of ['', '1.', `${sealed[0]!.slice(0, -2)}AA`, 'geheim']) {
    await assert.rejects(second.open(broken, 'job-1'), { code: 'store_failed' }, broken)
  }
})

test('the key is for its owner only, is never made anew over one that is needed, and one of another size is refused', async (t) => {
  const path = join(tempFolder(t), 'key')
  const sealed = await createSecretBox(path).seal('0123456789abcdef', 'j')
  if (process.platform !== 'win32') assert.equal(statSync(path).mode & 0o777, 0o600)
  rmSync(path)
  await assert.rejects(createSecretBox(path).open(sealed, 'j'), { code: 'store_failed', message: /is gone\. Restore/ })
  writeFileSync(path, 'short')
  await assert.rejects(createSecretBox(path).seal('x', 'j'), {
    code: 'store_failed',
    message: /has 5 bytes instead of 32/,
  })
  writeFileSync(path, Buffer.alloc(32))
  await assert.rejects(createSecretBox(path).open(sealed, 'j'), { code: 'store_failed', message: /does not open/ })
})

test('a key that a full disk or a kill left empty is made anew, and nothing else is left beside it', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'key')
  writeFileSync(path, '')
  const sealed = await createSecretBox(path).seal('0123456789abcdef', 'j')
  assert.equal(await createSecretBox(path).open(sealed, 'j'), '0123456789abcdef')
  assert.equal(statSync(path).mode & 0o077, 0)
  assert.deepEqual(readdirSync(folder), ['key'])
})
