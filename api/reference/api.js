// Without a validator: that would be a request to somebody else's server. The
// document's servers are for generated clients; the page asks its own.
fetch("/api/openapi.json")
  .then((answer) => answer.json())
  .then((spec) =>
    SwaggerUIBundle({
      spec: { ...spec, servers: [{ url: location.origin }] },
      dom_id: "#api",
      deepLinking: true,
      docExpansion: "list",
      defaultModelsExpandDepth: 0,
      filter: true,
      validatorUrl: null,
    }),
  );
