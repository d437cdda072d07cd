/** Answers with a body that never ends. */
export default {
  fetch(): Response {
    return new Response(new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(1)) }));
  },
};
