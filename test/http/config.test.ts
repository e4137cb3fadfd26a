// Where configuration comes from, which source wins, and what a bad value is told.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  environmentName,
  exposureOf,
  isLoopback,
  LIMITS,
  loadConfig,
  RETENTION,
  refuseOpenBind,
} from '../../src/config.ts'

test('defaults bind to loopback and carry every limit', () => {
  const config = loadConfig({})
  assert.deepEqual(
    { ...config, limits: null, retention: null, webhooks: null },
    {
      host: '127.0.0.1',
      port: 8080,
      dataDir: './data',
      device: 'auto',
      logLevel: 'info',
      drainSeconds: 20,
      allowedHosts: [],
      apiKeysFile: undefined,
      insecure: false,
      limits: null,
      retention: null,
      webhooks: null,
      webhookAllow: [],
    },
  )
  for (const [name, { default: value }] of Object.entries(LIMITS)) {
    assert.equal(config.limits[name as keyof typeof LIMITS], value, name)
  }
  for (const [name, { default: value }] of Object.entries(RETENTION)) {
    assert.equal(config.retention[name as keyof typeof RETENTION], value, name)
  }
})

test('options win over the environment, which wins over defaults', () => {
  const environment = { TENSORPRESS_PORT: '9000', TENSORPRESS_HOST: '0.0.0.0', TENSORPRESS_UPLOAD_BYTES: '1000' }
  const config = loadConfig(environment, { port: '9001' })
  assert.equal(config.port, 9001)
  assert.equal(config.host, '0.0.0.0')
  assert.equal(config.limits.uploadBytes, 1000)
  assert.equal(environmentName('diskFloorBytes'), 'TENSORPRESS_DISK_FLOOR_BYTES')
})

test('a bad value names the option or the variable that has it', () => {
  assert.throws(() => loadConfig({}, { port: 'http' }), { code: 'usage', message: /option --port is "http"/ })
  assert.throws(() => loadConfig({ TENSORPRESS_PORT: '70000' }), {
    code: 'usage',
    message: /TENSORPRESS_PORT is "70000"/,
  })
  assert.throws(() => loadConfig({ TENSORPRESS_STORE_BYTES: '-1' }), { message: /TENSORPRESS_STORE_BYTES is "-1"/ })
  assert.throws(() => loadConfig({ TENSORPRESS_QUEUE_LENGTH: '0' }), { message: /TENSORPRESS_QUEUE_LENGTH is "0"/ })
})

test('loopback addresses are told from others', () => {
  for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '::1']) assert.equal(isLoopback(host), true, host)
  for (const host of ['0.0.0.0', '::', '128.0.0.1', '127.0.0.1.evil.example', 'localhost.evil']) {
    assert.equal(isLoopback(host), false, host)
  }
})

test('an address that others can reach needs keys, or to be told so', () => {
  const at = (host: string, insecure = false) => ({ ...loadConfig({}), host, insecure })
  for (const host of ['127.0.0.1', '::1', 'localhost']) refuseOpenBind(at(host), false)
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.org']) {
    assert.throws(() => refuseOpenBind(at(host), false), {
      code: 'usage',
      message: /tensorpress keys new .* --insecure/,
    })
    refuseOpenBind(at(host), true)
    refuseOpenBind(at(host, true), false)
    assert.equal(exposureOf(at(host), false), 'insecure')
    assert.equal(exposureOf(at(host), true), 'keys')
  }
  assert.equal(exposureOf(at('127.0.0.1', true), false), 'loopback')
})

test('--insecure can come from the environment; a path of keys that is set and empty is refused', () => {
  assert.equal(loadConfig({ TENSORPRESS_INSECURE: '1' }).insecure, true)
  assert.equal(loadConfig({ TENSORPRESS_INSECURE: '0' }).insecure, false)
  assert.equal(loadConfig({}, { insecure: true }).insecure, true)
  assert.throws(() => loadConfig({ TENSORPRESS_INSECURE: 'maybe' }), { message: /TENSORPRESS_INSECURE is "maybe"/ })
  assert.equal(loadConfig({ TENSORPRESS_API_KEYS_FILE: '/run/keys' }).apiKeysFile, '/run/keys')
  assert.throws(() => loadConfig({ TENSORPRESS_API_KEYS_FILE: '' }), {
    code: 'usage',
    message: /TENSORPRESS_API_KEYS_FILE/,
  })
})
