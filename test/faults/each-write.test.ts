// The disk fills up at each write of the server in turn, from the first byte of an upload to the report of its job, once for a
// single write and once for all that follow: the client is told disk_full, nothing half is visible or left, and with space again
// the same request succeeds.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { AppError } from '../../src/errors.ts'
import { failingFiles } from '../support/failing-files.ts'
import { fakeRecipe, startService, tinyModel } from '../support/start-service.ts'
import { tempFolder } from '../support/temp-folder.ts'

/** More writes than an upload and a job need; the loop ends with the first that was not reached. */
const MOST_WRITES = 200

for (const until of ['one call', 'freed'] as const) {
  test(`a disk that is full at each write in turn, ${until === 'freed' ? 'and stays full' : 'for one call'}, costs the request and nothing else`, async (t) => {
    const dataDir = tempFolder(t)
    const disk = await failingFiles(t, tempFolder(t))
    const service = await startService(t, { dataDir })
    const failed: string[] = []
    let write = 1
    for (; write < MOST_WRITES; write++) {
      const bytes = tinyModel(write)
      disk.fill(write, until)
      const outcome = await attempt()
      const call = disk.free()
      if (call === null) break
      failed.push(call)
      const where = `write ${write} (${call})`
      assert.deepEqual(readdirSync(join(dataDir, 'temporary')), [], where)
      if (outcome !== 'disk_full') assert.equal(outcome, 'succeeded', where)
      assert.equal(await attempt(), 'succeeded', `${where}, with space again`)

      async function attempt(): Promise<string> {
        const upload = service.models.beginUpload()
        try {
          await upload.addFile(`m${write}.safetensors`, Readable.from([Buffer.from(bytes)]), bytes.byteLength)
          const { view } = await upload.commit()
          const { job } = await service.jobs.create({ modelId: view.id, recipe: fakeRecipe(`r${write}`) })
          const done = await service.jobs.wait(job.id, 20_000)
          return done.error?.code ?? done.state
        } catch (error) {
          await upload.discard() // as the HTTP layer does
          return AppError.from(error).code
        }
      }
    }
    assert.ok(write < MOST_WRITES)
    assert.equal((await service.health()).ready, true)
    // Not only the upload was met: files of the artifact, its result, the validation and the report as well.
    for (const call of ['open', 'mkdir', 'writev', 'sync', 'rename', 'writeFile', 'link']) {
      assert.ok(failed.includes(call), `${call} was never met in ${failed.join(' ')}`)
    }
    t.diagnostic(`${failed.length} writes: ${failed.join(' ')}`)
  })
}
