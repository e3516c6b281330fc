"""The templates and blueprints of the web page, made from the API's graphs and a description of each."""
