// tensorpress gc as a process: what it tells, what it removes, and what it refuses.

import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { GarbageReport } from '../../src/jobs/collect-garbage.ts'
import { type CliResult, startCliWith } from '../support/run-cli.ts'
import { startServer } from '../support/server-process.ts'
import { ended, startService, tinyModel, uploadModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

async function folderWithArtifacts(t: Parameters<typeof tempFolder>[0]): Promise<{ home: string; dataDir: string }> {
  const home = tempFolder(t)
  const dataDir = join(home, 'data')
  const service = await startService(t, { dataDir })
  for (const seed of [1, 2]) {
    const { id: modelId } = await uploadModel(service, tinyModel(seed))
    await ended(service, (await service.jobs.create({ modelId, recipe: 'int8' })).job.id)
  }
  await service.close()
  return { home, dataDir }
}

const runCli = (folder: string, args: string[], env: Record<string, string> = {}): Promise<CliResult> =>
  startCliWith(env, folder, ...args).result

/** A day and a bit, for artifacts only. */
function makeOld(dataDir: string): void {
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  db.prepare('UPDATE artifacts SET last_used_at = ?').run(new Date(Date.now() - 90_000_000).toISOString())
  db.close()
}

function tree(folder: string): string[] {
  return (readdirSync(folder, { recursive: true }) as string[]).filter(
    (name) => !/owner\.json|catalog\.sqlite-/.test(name),
  )
}

test('gc --dry-run tells what would go, why and how many bytes, and changes nothing; gc then does it', async (t) => {
  const { home, dataDir } = await folderWithArtifacts(t)
  makeOld(dataDir)
  mkdirSync(join(dataDir, 'temporary', 'upload-1'), { recursive: true })
  writeFileSync(join(dataDir, 'temporary', 'upload-1', 'half'), 'half an upload')
  mkdirSync(join(dataDir, 'models', 'feed'))
  const before = tree(dataDir)
  const env = { TENSORPRESS_ARTIFACT_MAX_AGE_HOURS: '24' }

  const told = await runCli(home, ['gc', '--dry-run', '--json'], env)
  assert.equal(told.status, 0, told.stderr)
  const report = JSON.parse(told.stdout) as GarbageReport
  assert.deepEqual(
    report.items.map(({ kind, reason }) => `${kind} ${reason}`),
    ['temporary orphan', 'model orphan', 'artifact age', 'artifact age'],
  )
  assert.equal(report.items[0]?.sizeBytes, 14)
  assert.equal(
    report.bytes,
    report.items.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  )
  assert.deepEqual(tree(dataDir), before)

  const table = await runCli(home, ['gc', '--dry-run', '--data-dir', dataDir], env)
  assert.match(table.stdout, /half upload or attempt/)
  assert.match(table.stdout, /4 items, .* would be removed\./)

  const done = await runCli(home, ['gc', '--json'], env)
  const result = JSON.parse(done.stdout) as GarbageReport
  assert.deepEqual({ ...result, dryRun: true }, report)
  assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [])
  assert.equal(readdirSync(join(dataDir, 'models')).length, 2)
  const again = await runCli(home, ['gc'], env)
  assert.match(again.stdout, /Nothing was removed\.\n$/)

  const service = await startService(t, { dataDir })
  const { items } = await service.jobs.list({ limit: 9, cursor: null })
  assert.deepEqual(
    items.map(({ artifact, artifactExpired }) => [artifact, artifactExpired]),
    [
      [null, true],
      [null, true],
    ],
  )
  assert.equal(JSON.parse(readFileSync((await service.jobs.report(items[0]!.id)).path, 'utf8')).jobId, items[0]!.id)
})

test('gc brings a folder under the cap, artifact files that were used longest ago first', async (t) => {
  const { home, dataDir } = await folderWithArtifacts(t)
  makeOld(dataDir)
  const { stdout } = await runCli(home, ['gc', '--json'], { TENSORPRESS_STORE_BYTES: '12500' })
  const { items, storedBytes, leftBytes, storeBytes, bytes } = JSON.parse(stdout) as GarbageReport
  assert.equal(leftBytes, storedBytes - bytes)
  assert.equal(storeBytes, 12_500)
  assert.ok(storedBytes > 12_500 && storedBytes - bytes <= 12_500, `${storedBytes} - ${bytes}`)
  assert.deepEqual(new Set(items.map(({ kind, reason }) => `${kind} ${reason}`)), new Set(['artifact quota']))
})

test('gc says by how much a folder stays over its cap when nothing more may go', async (t) => {
  const { home } = await folderWithArtifacts(t)
  const { stdout, status } = await runCli(home, ['gc', '--dry-run'], { TENSORPRESS_STORE_BYTES: '1000' })
  assert.equal(status, 0)
  assert.match(
    stdout,
    /Nothing would be removed\.\n\d+(\.\d)? KiB over the cap remain: in use by a job, used within the grace/,
  )
})

test('gc refuses a folder that a running server holds, and says that the server does it', async (t) => {
  const home = tempFolder(t)
  const dataDir = join(home, 'data')
  const server = await startServer(t, dataDir, ['--device', 'reference'])
  for (const options of [[], ['--dry-run']]) {
    const { status, stderr } = await runCli(home, ['gc', ...options])
    assert.equal(status, 2)
    assert.match(stderr, new RegExp(`Process ${server.process.pid} holds the data folder .* by itself`))
  }
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200)
})

test('gc refuses what is no data folder and creates none', async (t) => {
  const home = tempFolder(t)
  const { status, stderr } = await runCli(home, ['gc'])
  assert.equal(status, 3)
  assert.match(stderr, /There is no data folder at .*data.*\[not_found\]/)
  assert.equal(existsSync(join(home, 'data')), false)
})

test('gc does not upgrade a folder of an older version', async (t) => {
  const home = tempFolder(t)
  const dataDir = join(home, 'data')
  cpSync(join(import.meta.dirname, '..', 'fixtures', 'data-folder-1'), dataDir, { recursive: true })
  const db = new DatabaseSync(join(dataDir, 'catalog.sqlite'))
  db.exec(readFileSync(join(dataDir, 'catalog.sql'), 'utf8'))
  db.close()
  const { status, stderr } = await runCli(home, ['gc', '--dry-run'])
  assert.equal(status, 2)
  assert.match(stderr, /has schema version 1, this version has \d+\. Start the server once to upgrade it/)
})
