// Where configuration comes from, which source wins, and what a bad value is told.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { environmentName, isLoopback, LIMITS, loadConfig } from '../../src/config.ts'

test('defaults bind to loopback and carry every limit', () => {
  const config = loadConfig({})
  assert.deepEqual(
    { ...config, limits: null },
    {
      host: '127.0.0.1',
      port: 8080,
      dataDir: './data',
      device: 'auto',
      logLevel: 'info',
      drainSeconds: 20,
      allowedHosts: [],
      limits: null,
    },
  )
  for (const [name, { default: value }] of Object.entries(LIMITS)) {
    assert.equal(config.limits[name as keyof typeof LIMITS], value, name)
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
  assert.throws(() => loadConfig({ TENSORPRESS_QUEUE_LENGTH: '0' }), { message: /TENSORPRESS_QUEUE_LENGTH is "0"/ })
})

test('loopback addresses are told from others', () => {
  for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '::1']) assert.equal(isLoopback(host), true, host)
  for (const host of ['0.0.0.0', '::', '128.0.0.1', '127.0.0.1.evil.example', 'localhost.evil']) {
    assert.equal(isLoopback(host), false, host)
  }
})
