// A fuzz campaign that is ended by a signal: its process and its folder in memory go with it.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { tempFolder } from '../support/temp-folder.ts'

const RUN = join(import.meta.dirname, '..', '..', 'campaigns', 'run.ts')
const options = { skip: process.platform === 'linux' ? false : 'reads /proc', timeout: 60_000 }

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} to a fuzz campaign leaves neither folder nor process`, options, async (t) => {
    const campaign = startFuzz(t)
    const { pid, folder } = await fuzzChild(campaign.pid!)
    assert.ok(existsSync(folder))
    campaign.kill(signal)
    await once(campaign, 'close')
    assert.equal(campaign.exitCode, signal === 'SIGTERM' ? 143 : 130)
    assert.equal(existsSync(folder), false)
    while (existsSync(`/proc/${pid}`)) await sleep(10)
  })
}

function startFuzz(t: TestContext): ChildProcess {
  const args = [RUN, 'fuzz', '--targets', 'npz', '--cases', '100000000', '--no-record', '--dir', tempFolder(t)]
  const campaign = spawn(process.execPath, args, { stdio: 'ignore' })
  t.after(() => campaign.kill())
  return campaign
}

/** The child that fuzzes, once it has begun a case. Its folder is in its environment. */
async function fuzzChild(parent: number): Promise<{ pid: number; folder: string }> {
  for (;;) {
    const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim()
    for (const pid of children === '' ? [] : children.split(' ').map(Number)) {
      const folder = /(?:^|\0)TMPDIR=([^\0]*tensorpress-fuzz-[^\0]*)/.exec(environmentOf(pid))
      if (folder !== null && readdirSync(folder[1]!).includes('journal')) return { pid, folder: folder[1]! }
    }
    await sleep(20)
  }
}

/** '' when it has ended: the campaign also asks git for its commit. */
function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8')
  } catch {
    return ''
  }
}
