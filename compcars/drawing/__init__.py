"""A small renderer of parametric cars, for the sample dataset.

designs       parameters that distinguish models: proportions, lamps, grille, windows, wheels
lamps         outlines of headlamps and taillamps
surfaces      curved shells and regions cut from them
mesh          quads with a material and a drawing layer
car           the mesh of a design, with front, rear and wheels
camera        pinhole camera around the car
lighting      shading of paint, glass and chrome under a sky
scene         place and light of a photo
backdrop      background, and the road with the car's shadow
render        drawing of the quads over the backdrop
photo         a web-nature photo
surveillance  a crop from a traffic camera

Axes in meters: x toward the front of the car, y to its left, z up from the road.
"""
