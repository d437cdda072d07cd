/** Sends back what comes, piece by piece. */
export default {
  fetch(request: Request): Response {
    return new Response(request.body?.pipeThrough(new TransformStream()));
  },
};
