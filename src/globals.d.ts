type BufferSource = ArrayBufferView<ArrayBuffer> | ArrayBuffer
