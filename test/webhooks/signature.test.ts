// The signature header: a fixed vector, and what a receiver must refuse.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { signDelivery, takeSecret, verifyDelivery } from '../../src/webhooks/signature.ts'

const SECRET = 'whsec-0123456789abcdef'
const BODY = '{"id":"e","ä":1}'
/** printf '%s' '1764100000.{"id":"e","ä":1}' | openssl dgst -sha256 -hmac whsec-0123456789abcdef */
const HEADER = 't=1764100000,v1=ff5ed832ce21b3d9b2db5db1a29a4bcbfe00a63ab4c446bbcef9bf74900b6657'

test('the header is the time and the HMAC-SHA256 over time, dot and body', () => {
  assert.equal(signDelivery(SECRET, BODY, 1764100000), HEADER)
})

test('a receiver takes its own within five minutes, and refuses every change', () => {
  const now = 1764100000
  assert.equal(verifyDelivery(SECRET, BODY, HEADER, now), true)
  assert.equal(verifyDelivery(SECRET, BODY, HEADER, now + 300), true)
  assert.equal(verifyDelivery(SECRET, BODY, HEADER, now - 300), true)
  assert.equal(verifyDelivery(SECRET, BODY, HEADER, now + 301), false, 'replayed later')
  assert.equal(verifyDelivery(SECRET, BODY, HEADER, now - 301), false, 'from the future')
  assert.equal(verifyDelivery(`${SECRET}x`, BODY, HEADER, now), false, 'another secret')
  assert.equal(verifyDelivery(SECRET, `${BODY} `, HEADER, now), false, 'another body')
  assert.equal(verifyDelivery(SECRET, BODY, HEADER.replace('t=1764100000', 't=1764100001'), now), false, 'another time')
  for (const header of [
    '',
    't=1764100000',
    `${HEADER},v1=0`,
    HEADER.slice(0, -1),
    `x${HEADER}`,
    HEADER.toUpperCase(),
  ]) {
    assert.equal(verifyDelivery(SECRET, BODY, header, now), false, header)
  }
})

test('the secret of the server leaves its environment, and one that can be guessed is refused', () => {
  const environment = { TENSORPRESS_WEBHOOK_SECRET: SECRET, OTHER: 'x' }
  assert.equal(takeSecret(environment), SECRET)
  assert.deepEqual(environment, { OTHER: 'x' })
  assert.equal(takeSecret({}), null)
  assert.equal(takeSecret({ TENSORPRESS_WEBHOOK_SECRET: '' }), null)
  assert.throws(() => takeSecret({ TENSORPRESS_WEBHOOK_SECRET: 'short' }), {
    code: 'usage',
    message: /has 5 characters; 16 to 256 are allowed/,
  })
})
