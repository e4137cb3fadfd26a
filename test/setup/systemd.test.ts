// The unit for systemd, as systemd itself reads it: without running it, in a root of its own.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { tempFolder } from '../support/temp-folder.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const UNIT = readFileSync(join(ROOT, 'deploy/systemd/tensorpress.service'), 'utf8')
const SYSTEM_UNITS = '/usr/lib/systemd/system'
const absent = spawnSync('systemd-analyze', ['--version']).error !== undefined || !existsSync(SYSTEM_UNITS)
const skip = absent ? 'systemd is not installed' : false

/** A root with systemd's own units, the program and this unit. */
function systemRoot(t: TestContext, unit: string): string {
  const root = tempFolder(t)
  cpSync(SYSTEM_UNITS, join(root, SYSTEM_UNITS), { recursive: true, verbatimSymlinks: true })
  mkdirSync(join(root, 'opt/tensorpress'), { recursive: true })
  cpSync(join(ROOT, 'scripts/bundle/launcher.sh'), join(root, 'opt/tensorpress/tensorpress'))
  mkdirSync(join(root, 'etc/systemd/system'), { recursive: true })
  writeFileSync(join(root, 'etc/systemd/system/tensorpress.service'), unit)
  return root
}

function analyze(root: string, ...args: string[]) {
  const run = spawnSync('systemd-analyze', [...args, `--root=${root}`, 'tensorpress.service'], { encoding: 'utf8' })
  const about = `${run.stdout}${run.stderr}`.split('\n').filter((line) => line.includes('tensorpress.service'))
  return { status: run.status, about: about.join('\n') }
}

test('systemd understands every line of the unit and finds what it needs', { skip }, (t) => {
  const { status, about } = analyze(systemRoot(t, UNIT), 'verify', '--recursive-errors=no', '--man=no')
  assert.equal(about, '')
  assert.equal(status, 0)
})

test('a misspelt line would be told', { skip }, (t) => {
  const misspelt = UNIT.replace('ProtectSystem=strict', 'ProtectSytem=strict')
  assert.match(analyze(systemRoot(t, misspelt), 'verify', '--recursive-errors=no', '--man=no').about, /ProtectSytem/)
})

test('systemd judges the exposure to be at most 2.0 of 10, and more when a guard is taken out', { skip }, (t) => {
  const judge = (unit: string) => analyze(systemRoot(t, unit), 'security', '--offline=yes', '--threshold=20')
  const good = judge(UNIT)
  assert.match(good.about, /Overall exposure level for tensorpress\.service: [01]\.\d|: 2\.0/)
  assert.equal(good.status, 0, good.about)
  assert.notEqual(judge(UNIT.replace('DynamicUser=yes\n', '')).status, 0)
})

test('the unit drains as long as the server does, and sets no variable that the server does not know', () => {
  const stopSeconds = Number(/^TimeoutStopSec=(\d+)s$/m.exec(UNIT)?.[1])
  // The default of TENSORPRESS_DRAIN_SECONDS is 20; ending the children takes a moment more.
  assert.ok(stopSeconds >= 25)
  const variables = [...UNIT.matchAll(/\b(TENSORPRESS_[A-Z_]+)\b/g)].map((match) => match[1]!)
  const settings = readFileSync(join(ROOT, 'docs/operations.md'), 'utf8')
  for (const name of variables) assert.ok(settings.includes(`\`${name}\``), name)
  assert.ok(variables.includes('TENSORPRESS_DATA_DIR'))
})
