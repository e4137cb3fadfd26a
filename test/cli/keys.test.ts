// tensorpress keys new: what it prints, and that the line which it prints lets the key in.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseApiKeys } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import { runCli } from '../support/run-cli.ts'
import { tempFolder } from '../support/temp-folder.ts'

test('a key and its line go to standard output, what they are to standard error', async (t) => {
  const { status, stdout, stderr } = await runCli(
    tempFolder(t),
    'keys',
    'new',
    '--name',
    'ci',
    '--scopes',
    'read,submit',
  )
  assert.equal(status, 0, stderr)
  const [secret, entry, ...rest] = stdout.trimEnd().split('\n')
  assert.deepEqual(rest, [])
  assert.equal(fixedRing(parseApiKeys(entry!, 'printed')).identify(secret!)?.name, 'ci')
  assert.ok(!stderr.includes(secret!))
})

test('--json prints both as one document', async (t) => {
  const { stdout } = await runCli(tempFolder(t), 'keys', 'new', '--name', 'p', '--scopes', 'metrics', '--json')
  const { secret, entry } = JSON.parse(stdout) as { secret: string; entry: string }
  assert.match(entry, /^p:metrics:sha256:[0-9a-f]{64}$/)
  assert.match(secret, /^tpk_/)
})

test('a missing name, unknown scopes and another action are refused with status 2', async (t) => {
  const folder = tempFolder(t)
  const cases: [string[], RegExp][] = [
    [['keys', 'new', '--scopes', 'read'], /--name is missing/],
    [['keys', 'new', '--name', 'ci'], /--scopes is missing: one or more of admin, submit, read, metrics/],
    [['keys', 'new', '--name', 'ci', '--scopes', 'write'], /--scopes "write": scopes are one or more of/],
    [['keys', 'list'], /unknown action "list"; "new" is the only one/],
    [['keys'], /new is missing/],
  ]
  for (const [args, expected] of cases) {
    const { status, stdout, stderr } = await runCli(folder, ...args)
    assert.equal(status, 2, args.join(' '))
    assert.match(stderr, expected)
    assert.equal(stdout, '')
  }
})
