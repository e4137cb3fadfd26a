// An inspect child that dies of files named crash.bin and exit.bin and describes everything else. Child entry.

import { openModel } from '../../src/formats/index.ts'
import { send, serveChild } from '../../src/jobs/child-server.ts'
import { describeModel } from '../../src/jobs/inspect.ts'

serveChild(
  async (request) => {
    if (request.type !== 'describe') throw new Error(request.type)
    const name = request.files[0]?.name
    if (name === 'crash.bin') process.abort()
    if (name === 'exit.bin') process.exit(7)
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
