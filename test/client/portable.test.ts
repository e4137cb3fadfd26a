// The client runs in browsers: nothing of Node, nothing of the server, and no package.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

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
