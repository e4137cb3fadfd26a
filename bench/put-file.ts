// A client in its own process: PUT of one file, raw, as a stream. node bench/put-file.ts FILE URL; prints {"seconds", "body"}.

import { createReadStream, statSync } from 'node:fs'
import { request } from 'node:http'
import { pipeline } from 'node:stream/promises'

const [file = '', url = ''] = process.argv.slice(2)
const start = performance.now()
const put = request(url, { method: 'PUT', headers: { 'content-length': statSync(file).size } })
const answered = new Promise<string>((resolve, reject) => {
  put.once('error', reject)
  put.once('response', (response) => {
    let body = ''
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      body += text
    })
    response.once('end', () => {
      if ((response.statusCode ?? 500) < 300) resolve(body)
      else reject(new Error(`${response.statusCode}: ${body}`))
    })
  })
})
await Promise.all([pipeline(createReadStream(file, { highWaterMark: 2 ** 20 }), put), answered])
console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, body: await answered }))
