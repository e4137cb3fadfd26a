// Children get what drivers need and no secret.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { childEnvironment } from '../../src/validate/child-environment.ts'

test('what is named like a secret stays with the server, everything else is inherited', () => {
  const inherited = {
    PATH: '/bin',
    LD_LIBRARY_PATH: '/opt/driver',
    VK_ICD_FILENAMES: '/etc/icd.json',
    TENSORPRESS_DEVICE: 'auto',
    TENSORPRESS_API_KEYS_FILE: '/run/keys',
    KEYBOARD: 'de',
    TENSORPRESS_API_KEYS: 'x',
    TENSORPRESS_API_KEY: 'x',
    GITHUB_TOKEN: 'x',
    AWS_SECRET_ACCESS_KEY: 'x',
    AWS_SESSION_TOKEN: 'x',
    AWS_PROFILE: 'x',
    PGPASSWORD: 'x',
    webhook_secret: 'x',
    GOOGLE_APPLICATION_CREDENTIALS: 'x',
    NODE_TEST_CONTEXT: 'child',
  }
  assert.deepEqual(childEnvironment({ MESA_SHADER_CACHE_DIR: '/cache' }, inherited), {
    PATH: '/bin',
    LD_LIBRARY_PATH: '/opt/driver',
    VK_ICD_FILENAMES: '/etc/icd.json',
    TENSORPRESS_DEVICE: 'auto',
    TENSORPRESS_API_KEYS_FILE: '/run/keys',
    KEYBOARD: 'de',
    MESA_SHADER_CACHE_DIR: '/cache',
  })
})
