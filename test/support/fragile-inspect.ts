// An inspect child that does what the name of the file says: crash.bin, exit.bin, hang.bin, bloat.bin, exhaust.bin, cache.bin (tells
// its shader cache), linger.safetensors (takes its time); it describes everything else. Child entry.

import { AppError } from '../../src/errors.ts'
import { openModel } from '../../src/formats/index.ts'
import { send, serveChild } from '../../src/jobs/child-server.ts'
import { describeModel } from '../../src/jobs/describe-model.ts'

if (process.env['FRAGILE_START'] === 'crash') process.abort()

serveChild(
  async (request) => {
    if (request.type === 'describe-dataset') return process.abort()
    if (request.type !== 'describe') throw new Error(request.type)
    const name = request.files[0]?.name
    if (name === 'crash.bin') process.abort()
    if (name === 'exit.bin') process.exit(7)
    if (name === 'hang.bin') for (;;);
    if (name === 'bloat.bin') {
      const kept: Buffer[] = []
      for (;;) {
        kept.push(Buffer.alloc(32 * 1024 * 1024, 1))
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    if (name === 'exhaust.bin') new ArrayBuffer(2 ** 52)
    if (name?.startsWith('linger')) await new Promise((resolve) => setTimeout(resolve, 600))
    if (name === 'cache.bin') throw new AppError('internal', process.env['MESA_SHADER_CACHE_DIR'] ?? 'none')
    const reader = await openModel(request.files)
    try {
      return describeModel(reader)
    } finally {
      await reader.close()
    }
  },
  async () => {},
)
send({ type: 'ready', device: null, limits: null, startSeconds: process.uptime(), rssBytes: process.memoryUsage.rss() })
