// The client runs in browsers: nothing of Node, nothing of the server, and no package. What it has for Node is a file of its own.

import assert from 'node:assert/strict'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { openFile } from '../../src/client-node.ts'
import { tempFolder } from '../support/temp-folder.ts'

const root = join(import.meta.dirname, '..', '..')

test('the client imports its own files only and names nothing that browsers lack', () => {
  const files = globSync('src/client/**/*.ts', { cwd: root })
  assert.ok(files.length > 5)
  for (const file of files) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, path] of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
      assert.match(path!, /^\.\.?\/[a-z/-]+\.ts$/, `${file} imports ${path}`)
      assert.ok(!path!.includes('../..'), `${file} imports ${path}`)
    }
    if (file.includes('generated')) continue
    const code = text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
    assert.deepEqual(code.match(/\b(Buffer|process|require|__dirname|setImmediate)\b/g), null, file)
  }
})

test('openFile reads pieces of files beyond 4 GiB, and refuses one that was changed', async (t) => {
  const path = join(tempFolder(t), 'sparse')
  const size = 5 * 1024 ** 3 + 7
  const handle = await open(path, 'w')
  await handle.truncate(size)
  await handle.write('the end', size - 7)
  await handle.close()
  const content = await openFile(path)
  assert.equal(content.size, size)
  assert.equal(await (await content.slice(size - 9, size + 100)).text(), '\0\0the end')
  writeFileSync(path, 'another')
  await assert.rejects(async () => content.slice(0, 1), /was changed while it was sent/)
})
