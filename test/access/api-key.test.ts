// What an operator may write down as a key, what is refused, and that no error repeats a secret.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { allows, newApiKey, parseApiKeys } from '../../src/access/api-key.ts'
import { fixedRing } from '../../src/access/key-ring.ts'
import type { AppError } from '../../src/errors.ts'

const SECRET = 'correct-horse-battery-staple-0123456789'
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

test('a clear secret and its hash make the same key, and only the hash is kept', () => {
  const [clear] = parseApiKeys(`ci:read,submit:${SECRET}`, 'keys')
  const [hashed] = parseApiKeys(`ci:read,submit:sha256:${sha256(SECRET)}`, 'keys')
  assert.deepEqual(clear, hashed)
  assert.deepEqual(Object.keys(clear!), ['name', 'scopes', 'hash'])
  assert.equal(clear!.hash.toString('hex'), sha256(SECRET))
  assert.ok(!JSON.stringify(clear).includes(SECRET))
})

test('entries stand one a line or separated by spaces; comments and empty lines do not count', () => {
  const text = `# who may do what\n\nci:submit:${SECRET}1 ops:admin:${SECRET}2\r\n  prometheus:metrics:${SECRET}3\n`
  assert.deepEqual(
    parseApiKeys(text, 'keys').map(({ name }) => name),
    ['ci', 'ops', 'prometheus'],
  )
})

test('a secret may hold colons', () => {
  const secret = `a:b:${SECRET}`
  const ring = fixedRing(parseApiKeys(`ci:read:${secret}`, 'keys'))
  assert.equal(ring.identify(secret)?.name, 'ci')
})

test('admin may do everything, other scopes only themselves', () => {
  const [admin, reader] = parseApiKeys(`a:admin:${SECRET}1 r:read:${SECRET}2`, 'keys')
  for (const scope of ['admin', 'submit', 'read', 'metrics'] as const) {
    assert.equal(allows(admin!, scope), true, scope)
    assert.equal(allows(reader!, scope), scope === 'read', scope)
  }
})

test('a bad entry is refused by its line and name, and no part that may be a secret is repeated', () => {
  const secret = 'hunter2hunter2'
  const cases: [string, RegExp][] = [
    ['', /^keys holds no key\./],
    ['# only a comment', /^keys holds no key\./],
    [secret, /^keys, line 1: an entry is not of the form NAME:SCOPES:SECRET\./],
    [`ci:${secret}`, /^keys, line 1: an entry is not of the form NAME:SCOPES:SECRET\./],
    ['\nci:read:x', /^keys, line 2: the secret of key "ci" has 1 characters/],
    [`CI:read:${secret}`, /^keys, line 1: an entry has no proper name; a name is 1 to 64 lower-case letters/],
    [
      `ci:${secret}:read`,
      /^keys, line 1: key "ci" has no proper scopes; scopes are one or more of admin, submit, read/,
    ],
    ['ci::abc', /^keys, line 1: key "ci" has no proper scopes/],
    ['ci:__proto__:abc', /^keys, line 1: key "ci" has no proper scopes/],
    [`ci:read:${secret}`, /^keys, line 1: the secret of key "ci" has 14 characters; 32 to 512 are allowed/],
    [`ci:read:${secret.repeat(40)}`, /^keys, line 1: the secret of key "ci" has 560 characters/],
    [`ci:read:sha256:${secret}`, /^keys, line 1: the hash of key "ci" is not sha256: and 64 hexadecimal digits/],
    [`ci:read:${SECRET}é`, /^keys, line 1: the secret of key "ci" has characters beyond printable ASCII/],
    [`ci:read:${SECRET}1 ci:admin:${SECRET}2`, /^keys: key "ci" comes twice with different scopes\./],
    [`ci:read:${SECRET} cd:read:${SECRET}`, /^keys: keys "ci" and "cd" have the same secret\./],
  ]
  for (const [text, expected] of cases) {
    assert.throws(
      () => parseApiKeys(text, 'keys'),
      (error: AppError) => {
        assert.equal(error.code, 'usage')
        assert.match(error.detail, expected)
        assert.ok(!error.detail.includes(secret), `${error.detail} repeats the secret`)
        assert.ok(!error.detail.includes(SECRET), `${error.detail} repeats the secret`)
        return true
      },
    )
  }
})

test('one name may have two secrets with the same scopes, so that one can be changed', () => {
  const ring = fixedRing(parseApiKeys(`ci:read,submit:${SECRET}1 ci:submit,read:${SECRET}2`, 'keys'))
  assert.equal(ring.identify(`${SECRET}1`)?.name, 'ci')
  assert.equal(ring.identify(`${SECRET}2`)?.name, 'ci')
})

test('more keys than every request can be compared with are refused', () => {
  const text = Array.from({ length: 1001 }, (_, index) => `k${index}:read:${SECRET}${index}`).join('\n')
  assert.throws(() => parseApiKeys(text, 'keys'), { detail: 'keys holds 1001 keys; 1000 are allowed.' })
})

test('a new key has 256 random bits and an entry that lets it in', () => {
  const first = newApiKey('ci', ['read', 'submit'])
  const second = newApiKey('ci', ['read', 'submit'])
  assert.match(first.secret, /^tpk_[\w-]{43}$/)
  assert.notEqual(first.secret, second.secret)
  assert.equal(first.entry, `ci:read,submit:sha256:${sha256(first.secret)}`)
  const ring = fixedRing(parseApiKeys(first.entry, 'keys'))
  assert.equal(ring.identify(first.secret)?.name, 'ci')
  assert.equal(ring.identify(second.secret), null)
  assert.equal(ring.identify(sha256(first.secret)), null)
  assert.equal(ring.identify(''), null)
})

test('a new key with a bad name or scope is refused', () => {
  assert.throws(() => newApiKey('C I', ['read']), { code: 'usage', message: /--name "C I": a name is/ })
  assert.throws(() => newApiKey('ci', ['write']), { code: 'usage', message: /--scopes "write": scopes are/ })
  assert.throws(() => newApiKey('ci', ['']), { code: 'usage' })
})
