"""The web application: views of the HTTP API, the page and the API's documentation."""
