"""A small renderer of parametric cars, for the sample dataset.

designs       what tells one model from another: proportions, lamps, grille, windows, wheels
lamps         outlines of headlamps and tail lamps
surfaces      curved shells and the regions cut from them
mesh          quads with a material and a place in the drawing order
car           a design as a mesh, with front, rear and wheels
camera        where the photographer stands
lighting      paint, glass and chrome under a sky
scene         the place and its light
backdrop      what is behind the car, and the road with its shadow
render        the quads drawn over the backdrop
photo         a web-nature photo
surveillance  a crop from a traffic camera

Axes in metres: x to the front of the car, y to its left, z up from the road.
"""
