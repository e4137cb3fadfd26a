// Where webhooks may go: every range by literal and by name, spellings of the same address, and what an operator allows.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { type Address, createTargetGuard } from '../../src/webhooks/target-guard.ts'

const FORBIDDEN = { code: 'webhook_target_forbidden' }
const to =
  (...addresses: string[]) =>
  async (): Promise<Address[]> =>
    addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
const nobody = async (): Promise<Address[]> => {
  throw new Error('nobody should ask DNS')
}

const BLOCKED = {
  'this network': ['0.0.0.0', '0.255.255.255'],
  'private 10/8': ['10.0.0.0', '10.255.255.255'],
  'carrier-grade NAT, with the metadata service of Alibaba': ['100.64.0.0', '100.100.100.200', '100.127.255.255'],
  loopback: ['127.0.0.1', '127.255.255.255', '::1'],
  'the host agent of Azure': ['168.63.129.16'],
  'link-local, with the metadata service of most clouds': ['169.254.0.1', '169.254.169.254', 'fe80::1', 'febf::1'],
  'private 172.16/12': ['172.16.0.0', '172.31.255.255'],
  'protocol assignments, with the metadata service of Oracle': ['192.0.0.1', '192.0.0.192', '2001::1', '2001:1ff::'],
  documentation: ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1'],
  '6to4': ['192.88.99.1', '2002:7f00:1::'],
  'private 192.168/16': ['192.168.0.0', '192.168.255.255'],
  benchmarks: ['198.18.0.0', '198.19.255.255'],
  multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1', 'ff0e::1'],
  'reserved and broadcast': ['240.0.0.1', '255.255.255.255', '4000::1', 'e000::1'],
  unspecified: ['::'],
  'IPv4-mapped': ['::ffff:127.0.0.1', '::ffff:10.0.0.1', '::ffff:8.8.8.8', '::ffff:a9fe:a9fe'],
  'IPv4-compatible and NAT64': ['::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b:1::1'],
  discard: ['100::1'],
  'unique local, with the metadata service of Amazon': ['fc00::1', 'fd00:ec2::254', 'fdff::1'],
  'site-local': ['fec0::1'],
}

for (const [what, addresses] of Object.entries(BLOCKED)) {
  test(`${what} is refused, written in the URL and behind a name`, async () => {
    for (const address of addresses) {
      const literal = address.includes(':') ? `[${address}]` : address
      const guard = createTargetGuard([], nobody)
      assert.throws(() => guard.checkUrl(`https://${literal}/`), FORBIDDEN, address)
      await assert.rejects(guard.addressesOf(new URL(`https://${literal}/`)), FORBIDDEN, address)
      const named = createTargetGuard([], to(address))
      await assert.rejects(named.addressesOf(named.checkUrl('https://hooks.example.com/')), FORBIDDEN, address)
    }
  })
}

test('neighbours of blocked ranges and public addresses may be called', async () => {
  const open = ['1.1.1.1', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '128.0.0.1', '172.15.255.255']
  open.push(
    '172.32.0.0',
    '192.0.1.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
    '223.255.255.255',
  )
  open.push('2001:200::1', '2606:4700::1111', '2a00:1450::1', '2003::1', '3ffe::1')
  for (const address of open) {
    const guard = createTargetGuard([], to(address))
    assert.equal((await guard.addressesOf(guard.checkUrl('https://hooks.example.com/')))[0]?.address, address)
    const literal = address.includes(':') ? `[${address}]` : address
    assert.equal((await guard.addressesOf(guard.checkUrl(`https://${literal}/`))).length, 1, address)
  }
})

test('other spellings of a blocked address are the same address', () => {
  const guard = createTargetGuard([], nobody)
  for (const host of [
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '127.1',
    '127.0.0.1.',
    '[0:0:0:0:0:ffff:7f00:1]',
    '１２７.0.0.1',
  ]) {
    assert.throws(() => guard.checkUrl(`https://${host}/`), FORBIDDEN, host)
  }
  for (const host of ['localhost', 'LOCALHOST', 'localhost.', 'a.localhost']) {
    assert.throws(() => guard.checkUrl(`https://${host}/`), FORBIDDEN, host)
  }
})

test('one blocked address among several refuses the name', async () => {
  const guard = createTargetGuard([], to('93.184.216.34', '10.0.0.7'))
  await assert.rejects(guard.addressesOf(new URL('https://hooks.example.com/')), (error) => {
    assert.ok(error instanceof AppError)
    assert.doesNotMatch(error.detail, /10\.0\.0\.7/, 'what our DNS says is not told to clients')
    return error.code === 'webhook_target_forbidden'
  })
  await assert.rejects(createTargetGuard([], to()).addressesOf(new URL('https://hooks.example.com/')), /no address/)
})

test('only http and https without a user name are URLs of webhooks, and http only where it is allowed', () => {
  const guard = createTargetGuard([], nobody)
  for (const url of [
    'ftp://a.example/',
    'file:///etc/passwd',
    'hooks',
    '',
    'https://',
    `https://a.example/${'x'.repeat(2048)}`,
  ]) {
    assert.throws(() => guard.checkUrl(url), { code: 'request_invalid' }, url)
  }
  assert.throws(() => guard.checkUrl('https://me:pw@a.example/'), { code: 'request_invalid' })
  assert.throws(() => guard.checkUrl('http://a.example/'), FORBIDDEN)
  assert.equal(guard.checkUrl('https://a.example/x?y#z').href, 'https://a.example/x?y')
})

test('an allowed host may be private and plain, and so may hosts below one with a leading dot', async () => {
  const guard = createTargetGuard(['hooks.corp', '.svc.cluster.local'], to('10.1.2.3'))
  for (const host of ['hooks.corp', 'a.svc.cluster.local', 'a.b.svc.cluster.local']) {
    assert.equal((await guard.addressesOf(guard.checkUrl(`http://${host}:8080/`))).length, 1)
  }
  for (const host of ['x.hooks.corp', 'hooks.corp.example', 'svc.cluster.local', 'asvc.cluster.local']) {
    assert.throws(() => guard.checkUrl(`http://${host}/`), FORBIDDEN, host)
    await assert.rejects(guard.addressesOf(guard.checkUrl(`https://${host}/`)), FORBIDDEN, host)
  }
})

test('an allowed range opens its addresses, by literal and by name, http included, and nothing else', async () => {
  const allow = ['10.1.0.0/16', '127.0.0.1', 'fd12::/16']
  for (const address of ['10.1.255.255', '127.0.0.1', 'fd12::5']) {
    const guard = createTargetGuard(allow, to(address))
    assert.equal((await guard.addressesOf(guard.checkUrl('http://hooks.corp/'))).length, 1)
    const literal = address.includes(':') ? `[${address}]` : address
    assert.equal((await guard.addressesOf(guard.checkUrl(`http://${literal}/`))).length, 1)
  }
  for (const address of ['10.2.0.0', '127.0.0.2', 'fd13::5', '169.254.169.254']) {
    const guard = createTargetGuard(allow, to(address))
    await assert.rejects(guard.addressesOf(guard.checkUrl('https://hooks.corp/')), FORBIDDEN, address)
  }
  const mixed = createTargetGuard(allow, to('10.1.0.1', '93.184.216.34'))
  await assert.rejects(mixed.addressesOf(mixed.checkUrl('http://hooks.corp/')), FORBIDDEN, 'http to a public address')
  assert.equal((await mixed.addressesOf(mixed.checkUrl('https://hooks.corp/'))).length, 2)
})

test('an allow list with a malformed entry is refused at start', () => {
  for (const entry of [
    '10.0.0.0/33',
    '10.0.0/8',
    'fd00::/129',
    '10.0.0.0/',
    '10.0.0.0/8/9',
    'a b',
    'http://a',
    '-a.b',
    '*',
  ]) {
    assert.throws(() => createTargetGuard([entry]), { code: 'usage' }, entry)
  }
})
